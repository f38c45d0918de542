"""Results from a table that was made by hand."""

from dataclasses import replace

import pytest

from tests.episodes.examples import example
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.files import write_json
from vlm4vla.studies import report as module
from vlm4vla.studies.cell import Scenes
from vlm4vla.studies.measures import CKA, OF_CELL, Measured, Measures, Row
from vlm4vla.studies.paper import _RECORDS, direction, records, reported
from vlm4vla.studies.registry import TINY
from vlm4vla.studies.report import Report, lines, report, to_json
from vlm4vla.studies.status import done
from vlm4vla.studies.study import Member, Study, studies
from vlm4vla.studies.trained import FILE, folder_of

SCALE = replace(
    TINY,
    vlms=TINY.vlms[:1],
    scenes=Scenes(0, 20),
    selection=Scenes(100_000, 10),
    rates=(1e-3, 1e-4),
    chosen_rates=(6e-4,),
)
STUDIES = studies(SCALE)


@pytest.fixture
def table() -> EpisodeTable:
    return EpisodeTable.in_memory()


def put(table: EpisodeTable, member: Member, reach: int, pick: int, agent: str = "") -> None:
    """A cell whose first scenes of each task succeeded."""
    cell = member.cell
    for task, successes in (("reach", reach), ("pick", pick)):
        for number, seed in enumerate(cell.scenes.seeds):
            outcome = "success" if number < successes else "dropped"
            episode = example(
                seed, steps=2, task=task, outcome=outcome, agent=agent or f"policy of {cell.name}"
            )
            table.put(episode, [Membership("study", cell.name)])


def members(study: Study, level: str) -> list[Member]:
    return [one for one in study.members if one.level == level]


@pytest.fixture
def initialisation(table) -> Report:
    """The VLM's start is everywhere, scratch too; of its own start one training seed lacks."""
    study = STUDIES["initialisation"]
    for member in members(study, "VLM"):
        put(table, member, 15, 10)
    for member, pick in zip(members(study, "scratch"), (0, 2, 4), strict=True):
        put(table, member, 5, pick)
    for member in members(study, "scratch, the VLM's start")[:2]:
        put(table, member, 15, 9)
    return report(table, study)


def test_rates_and_differences_are_those_of_the_scenes(initialisation):
    rates = {one.member.label: one.rates for one in initialisation.cells}
    assert rates["VLM, qwen3-vl at 0.0006, training seed 0"]["all"][:2] == (40, 25)
    assert rates["scratch, qwen3-vl at 0.0006, training seed 1"]["pick"][:2] == (20, 2)
    scratch = initialisation.recipes[0]
    assert [one.seed for one in scratch.seeds] == [0, 1, 2]
    row = scratch.seeds[0].rows["all"]
    assert (row.both, row.only_a, row.only_b, row.neither) == (5, 0, 20, 15)
    # Exact McNemar: 20 scenes that differ all one way.
    assert row.p == pytest.approx(2 / 2**20)
    # Holm over five comparisons of "all"; the next smallest are 18 and 16 scenes one way.
    adjusted = [one.rows["all"].adjusted for one in scratch.seeds]
    assert adjusted == pytest.approx([5 * 2 / 2**20, 4 * 2 / 2**18, 3 * 2 / 2**16])
    # Differences 20, 18 and 16 of 40: deviation 0.05, t of 2 degrees 4.30265, over the root of 3.
    assert scratch.mean == pytest.approx(-0.45)
    assert (scratch.low, scratch.high) == pytest.approx((-0.57421, -0.32579), abs=1e-5)
    assert scratch.told
    assert "-50, -45, -40 points in the training seeds" in scratch.sentence()
    assert scratch.sentence().endswith(": they differ.")


def test_two_training_seeds_say_nothing_of_a_recipe(initialisation):
    other = initialisation.recipes[1]
    assert len(other.seeds) == 2 and not other.told
    assert "we cannot tell these pairs of policies apart" in other.sentence()
    assert "it takes 3" in other.sentence()
    told = "\n".join(lines(initialisation))
    assert told.count(": not run\n") == 1
    # One scene that differs tells nothing.
    assert other.seeds[0].detectable["all"] is None


def test_of_two_pairs_of_policies_those_that_are_told_are_counted(table):
    study = STUDIES["initialisation"]
    for member in members(study, "VLM")[:2]:
        put(table, member, 15, 10)
    for member, reach in zip(members(study, "scratch")[:2], (0, 14), strict=True):
        put(table, member, reach, 9)
    sentence = report(table, study).recipes[0].sentence()
    assert "-40, -5 points" in sentence and "1 of 2 of these pairs of policies differ" in sentence


def test_account_and_measures_are_those_of_the_policy_that_is_counted(table, tmp_path, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    [member] = members(STUDIES["modules"], "all")[:1]
    cell = member.cell
    put(table, member, 15, 10, agent="of another machine")
    write_json(folder_of(cell) / FILE, {"name": cell.name, "agent": "trained here"})
    Measured(cell.name, "trained here", "pictures", "command", 1.0, ()).write(
        folder_of(cell) / OF_CELL
    )
    [result, *_] = report(table, STUDIES["modules"]).cells
    assert result.found.agent == "of another machine"
    assert result.account is None and result.measures is None
    put(table, member, 15, 10, agent="trained here")
    for row in result.found.rows.values():
        table.drop(row.id)
    [result, *_] = report(table, STUDIES["modules"]).cells
    assert result.account is not None and result.measures is not None


def test_beside_the_paper_stands_a_direction_alone(initialisation):
    scratch, start = initialisation.agreements
    assert scratch.ours == "lower"
    assert "lower in 4 of 4 (paper Table 4; secondary)" in scratch.sentence()
    assert scratch.sentence().endswith("the same direction.")
    assert start.ours == "" and start.sentence().endswith("the paper has no number.")
    modules = report(EpisodeTable.in_memory(), STUDIES["modules"])
    by_level = {one.contrast.a: one.sentence() for one in modules.agreements}
    assert by_level["language frozen"].endswith("the paper has no number.")
    assert by_level["vision frozen"].endswith("ours does not tell a direction in every family.")


def test_measures_stand_below_their_cell(table, monkeypatch):
    study = STUDIES["modules"]
    whole = study.members[0]
    row = Row(CKA, "vision 4", "", 0.25, None, None, 300, None)
    measures = Measures(
        Measured(whole.cell.name, "agent", "pictures", "command", 1.0, (row,)), None
    )
    monkeypatch.setattr(
        module, "measured", lambda cell, agent: measures if cell == whole.cell else None
    )
    found = report(table, study)
    told = lines(found)
    at = next(place for place, line in enumerate(told) if whole.cell.name in line)
    assert told[at + 1] == "    CKA of vision 4 with its start is 0.25"
    assert sum("CKA" in line for line in told) == 1
    first, second, *_ = to_json(found)["cells"]
    assert first["measures"]["trained"]["rows"][0]["score"] == 0.25
    assert second["measures"] is None


def test_nothing_is_invented_where_nothing_ran(table):
    found = report(table, STUDIES["modules"])
    told = lines(found)
    assert sum(line.endswith(": not run") for line in told) == len(STUDIES["modules"].members)
    plain = to_json(found)
    assert all(one["mean"] is None and not one["told"] for one in plain["contrasts"])
    assert all(cell["rates"] == {} for cell in plain["cells"])


def test_a_rate_is_chosen_once_all_were_tried(table):
    study = STUDIES["rate"]
    by_rate = {(one.level, one.cell.learning_rate): one for one in study.members}
    put(table, by_rate["VLM", 0.001], 7, 3)
    assert report(table, study).chosen[0].best is None
    put(table, by_rate["VLM", 0.0001], 7, 2)
    vlm, scratch = report(table, study).chosen
    assert (vlm.best, scratch.best) == (1e-3, None)
    assert vlm.rates[1e-4].successes == 9
    assert "best at 0.001" in vlm.sentence() and "not run" in scratch.sentence()
    # As good with the lower rate: the lower one.
    put(table, by_rate["scratch", 0.001], 1, 1)
    put(table, by_rate["scratch", 0.0001], 2, 0)
    assert report(table, study).chosen[1].best == 1e-4


def test_a_cell_counts_one_policy_and_says_so(table):
    [member] = members(STUDIES["modules"], "all")[:1]
    put(table, member, 20, 20, agent="whole")
    assert done(table, member.cell)
    other = example(0, steps=2, task="reach", agent="begun elsewhere", outcome="dropped")
    table.put(other, [Membership("study", member.cell.name)])
    # Of another cell, of another condition, of a scene beside it.
    table.put(example(1, agent="whole", noisy=True), [Membership("study", member.cell.name)])
    table.put(example(50, agent="whole"), [Membership("study", member.cell.name)])
    cell = report(table, STUDIES["modules"]).cells[0]
    assert cell.rates["all"][:2] == (40, 40)
    assert (cell.found.agent, cell.found.others, cell.missing) == ("whole", 1, 0)


def test_the_papers_numbers_name_their_table():
    page = [one for one in records() if one["source"].startswith("project page")]
    # The present version of the paper has nine VLMs; this one is on its page alone.
    assert {(one["table"], one["model"]) for one in page} == {("main", "InternVL3.5-4B")}
    assert all(one["source"].startswith("paper") for one in records() if one not in page)
    assert {one["confidence"] for one in records()} == {"table", "read-off-chart", "secondary"}
    frozen = reported("vision frozen")
    # Table 3: three VLMs on two benchmarks, all lower; of embeddings one is higher.
    assert [(one.model, one.delta) for one in frozen if one.benchmark.startswith("CALVIN")] == [
        ("Qwen2.5VL-3B", -1.001),
        ("Qwen2.5VL-7B", -1.234),
        ("Paligemma-1", -3.011),
    ]
    assert direction(frozen) == "lower"
    assert direction(reported("embeddings frozen")) == "mixed"
    # The table of FAST tokens: 27.6 to 28.0 and 45.7 with vision frozen, 56.3 to 56.3 and 59.4.
    deltas = {one: [r.delta for r in reported(one)] for one in _RECORDS if "tokens" in one}
    assert deltas == {
        "tokens to language, then vision frozen": [0.4],
        "tokens to all, then vision frozen": [18.1],
        "tokens to language, then vision trained": [0.0],
        "tokens to all, then vision trained": [3.1],
    }
    assert direction(reported("tokens to language, then vision trained")) == "level"
    assert reported("") == [] and direction([]) == ""
