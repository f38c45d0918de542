"""The blind check of failure labels: its sample, its files, and what comes of it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.eval.test_labelling import NEW, OLD, put
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import RULES, RULES_VERSION
from vlm4vla.eval.label_check import (
    BLANK,
    GUIDE,
    IN_PLAIN_WORDS,
    KEY,
    LabelCheck,
    compare,
    draw,
    prepare,
    read_check,
    write_check,
)
from vlm4vla.eval.labelling import OTHER, Query, label_missing, summarise

EVERY = Query.from_address({"agent": "all", "condition": "all"})


@pytest.fixture(scope="module")
def table() -> EpisodeTable:
    """40 failed picks and 20 failed stacks of one agent, 20 failed picks of another."""
    made = EpisodeTable.in_memory()
    for agent, task, count in ((NEW, "pick", 40), (NEW, "stack", 20), (OLD, "pick", 20)):
        for seed in range(count):
            put(made, task, seed, "not reached", agent, 2e9)
    put(made, "pick", 90, "success", NEW, 2e9)
    label_missing(made)
    return made


def sample(table: EpisodeTable, number: int = 8, seed: int = 0) -> list[str]:
    wanted = summarise(table, EVERY).wanted
    return [one.row.id for one in draw(table, wanted, number, seed)]


def test_every_task_and_agent_has_its_share_of_the_sample(table: EpisodeTable) -> None:
    for seed in range(5):
        ids = sample(table, 8, seed)
        rows = [table.row(key) for key in ids]
        assert Counter((row.agent.digest, row.goal_task) for row in rows) == {
            (NEW.digest, "pick"): 4,
            (NEW.digest, "stack"): 2,
            (OLD.digest, "pick"): 2,
        }
        assert len(set(ids)) == 8


def test_a_sample_is_fixed_by_its_seed_and_tells_nothing_by_its_order(table: EpisodeTable) -> None:
    assert sample(table, 40, 1) == sample(table, 40, 1) != sample(table, 40, 2)
    tasks = [table.row(key).goal_task for key in sample(table, 40, 1)]
    assert tasks not in (sorted(tasks), sorted(tasks, reverse=True))


@pytest.mark.parametrize("number", [0, 81])
def test_more_than_there_are_cannot_be_drawn(table: EpisodeTable, number: int) -> None:
    with pytest.raises(UserError, match=f"{number} of 80 failures"):
        sample(table, number)


def test_who_labels_is_told_words_and_neither_labels_nor_limits(
    table: EpisodeTable, tmp_path: Path
) -> None:
    ids = sample(table)
    prepare(tmp_path, ids, seed=0, drawn_from=80)
    assert set(IN_PLAIN_WORDS) == {*RULES, OTHER}
    guide = (tmp_path / GUIDE).read_text()
    assert all(f"  {name}: " in guide for name in IN_PLAIN_WORDS)
    assert not any(unit in guide for unit in (" cm", "degrees", "second.", "six"))
    assert (tmp_path / BLANK).read_text().splitlines()[:2] == ["sheet,label,note", "001,,"]
    assert list(json.loads((tmp_path / KEY).read_text())["sheets"].values()) == ids
    prepare(tmp_path, ids, seed=0, drawn_from=80)
    with pytest.raises(UserError, match="another sample"):
        prepare(tmp_path, ids[::-1], seed=1, drawn_from=80)


def test_labels_that_somebody_filled_in_stay(table: EpisodeTable, tmp_path: Path) -> None:
    ids = sample(table)
    prepare(tmp_path, ids, seed=0, drawn_from=80)
    said = (tmp_path / BLANK).read_text().replace("001,,", "001,dropped,at the rim")
    (tmp_path / BLANK).write_text(said)
    prepare(tmp_path, ids, seed=0, drawn_from=80)
    assert (tmp_path / BLANK).read_text() == said


def filled(folder: Path, labels: dict[str, str], *, header: str = "sheet,label,note") -> Path:
    path = folder / "filled.csv"
    lines = [f"{sheet},{label}," for sheet, label in labels.items()]
    # As a spreadsheet writes it, with a mark before the first name.
    path.write_text("\n".join([header, *lines]), "utf-8-sig")
    return path


def test_labels_are_compared_by_sheet_and_kept(table: EpisodeTable, tmp_path: Path) -> None:
    ids = sample(table)
    prepare(tmp_path, ids, seed=0, drawn_from=80)
    # All of these never reach; a spreadsheet drops the zeros of a sheet's name.
    said = {"1": "never reached", "2": "Never Reached ", "003": "dropped", "4": ""}
    check = compare(table, filled(tmp_path, said), "ann", "a command", "2026-01-02")
    assert check.labels == (
        (ids[0], "never reached", "never reached"),
        (ids[1], "never reached", "never reached"),
        (ids[2], "never reached", "dropped"),
    )
    assert (check.kappa.n, check.kappa.agreed, check.kappa.kappa) == (3, 2, 0)
    assert check.confusion() == [
        ("never reached", "dropped", 1),
        ("never reached", "never reached", 2),
    ]
    write_check(tmp_path / "check.json", check)
    assert read_check(tmp_path / "check.json") == check
    assert not check.outdated


@pytest.mark.parametrize(
    ("labels", "header", "why"),
    [
        ({"1": "fell over"}, "sheet,label,note", "unknown label 'fell over' of sheet 001"),
        ({"99": "dropped"}, "sheet,label,note", "sheet 099 is unknown"),
        ({"1": "dropped", "01": "dropped"}, "sheet,label,note", "sheet 001 is twice there"),
        ({"1": ""}, "sheet,label,note", "has no label"),
        ({"1": "dropped"}, "a,b,c", "no columns 'sheet' and 'label'"),
    ],
)
def test_what_is_wrong_with_labels_is_told(
    table: EpisodeTable, tmp_path: Path, labels: dict[str, str], header: str, why: str
) -> None:
    prepare(tmp_path, sample(table), seed=0, drawn_from=80)
    with pytest.raises(UserError, match=why):
        compare(table, filled(tmp_path, labels, header=header), "ann", "", "")


def test_labels_without_their_key_or_damaged_checks_are_told(
    table: EpisodeTable, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"key\.json is missing"):
        compare(table, filled(tmp_path, {"1": "dropped"}), "ann", "", "")
    assert read_check(tmp_path / "none.json") is None
    (tmp_path / "bad.json").write_text('{"labels": 3}')
    with pytest.raises(UserError, match="no check of labels"):
        read_check(tmp_path / "bad.json")


def test_other_rules_make_a_check_outdated() -> None:
    check = LabelCheck("", "", "", RULES_VERSION - 1, 0, 1, (("a", "dropped", "dropped"),))
    assert check.outdated
