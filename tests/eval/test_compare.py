import csv
import json
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, LIVE, example
from vlm4vla.cli import main
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.pairs import (
    Half,
    Pair,
    Side,
    candidates,
    newest_that_share,
    pairs,
)
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.compare import compare, compare_several, to_csv

AGENT, OTHER = "bed03166840b0dc4", "0123456789abcdef"
A, B = Side(AGENT, Condition()), Side(OTHER, Condition())
SELECT = 100_000


@pytest.fixture
def table() -> EpisodeTable:
    return EpisodeTable.in_memory()


def agent(digest: str) -> dict[str, object]:
    return {"agents": (AgentSpan(AgentId("policy", digest, "other")),)}


def drawn(task: str, both: int, only_a: int, only_b: int, neither: int) -> list[Pair]:
    cells = [(True, True)] * both + [(True, False)] * only_a
    cells += [(False, True)] * only_b + [(False, False)] * neither
    return [
        Pair("tabletop", task, seed, Half("a", a), Half("b", b))
        for seed, (a, b) in enumerate(cells)
    ]


def test_only_the_scenes_and_goals_that_both_were_given_are_paired(table: EpisodeTable) -> None:
    for seed in range(5):
        table.put(example(seed, outcome="dropped" if seed == 3 else "success"), [EVALUATION])
    for seed in range(2, 8):
        table.put(example(seed, **agent(OTHER)), [EVALUATION])
    # The same scene with another goal, in another condition, on another split or picked.
    table.put(
        example(0, goal={"task": "pick", "object": "blue ball"}, **agent(OTHER)), [EVALUATION]
    )
    table.put(example(1, alternate=True, **agent(OTHER)), [EVALUATION])
    table.put(example(SELECT, **agent(OTHER)), [Membership("selection")])
    table.put(example(SELECT), [Membership("selection")])
    table.put(example(9), [LIVE])
    table.put(example(9, **agent(OTHER)), [EVALUATION])
    found = pairs(table, A, B)
    assert [(one.seed, one.a.success, one.b.success) for one in found] == [
        (2, True, True),
        (3, False, True),
        (4, True, True),
    ]
    assert {one.a.id for one in found} == {
        row.id for row in table.query() if row.spec.seed in (2, 3, 4) and row.agent.digest == AGENT
    }
    assert [one.seed for one in pairs(table, A, B, "select")] == [SELECT]


def test_two_conditions_of_one_agent_are_paired_though_their_sentences_differ(
    table: EpisodeTable,
) -> None:
    table.put(example(0), [EVALUATION])
    table.put(example(0, words="broad", instruction="grab the crimson one"), [EVALUATION])
    [found] = pairs(table, A, Side(AGENT, Condition(words="broad")))
    assert found.a.id != found.b.id


def test_a_better_side_is_named_only_where_the_scenes_tell() -> None:
    [clear] = compare(drawn("pick", 40, 40, 5, 15))
    assert clear.told and clear.more == 0
    assert clear.sentence("tuned", "frozen") == (
        "tuned succeeds more often than frozen: 80 against 45 of 100 shared scenes, "
        f"a minus b +35.0 points (95 % {100 * clear.paired.low:+.1f} to "
        f"{100 * clear.paired.high:+.1f}), p = {clear.p:.2g}."
    )
    [open_] = compare(drawn("pick", 70, 8, 2, 20))
    assert not open_.told and open_.paired.low < 0 < open_.paired.high
    sentence = open_.sentence("tuned", "frozen")
    assert sentence.startswith("These scenes cannot tell tuned from frozen: 78 against 72 of 100")
    # (1.96 sqrt(0.1) + 0.8416 sqrt(0.1 - 0.0036))^2 / 0.0036 = 215.6, and 100 are there.
    assert open_.more == 116 and "About 116 more scenes" in sentence
    [same] = compare(drawn("pick", 50, 3, 3, 44))
    assert same.more is None and "No difference was seen." in same.sentence("a", "b")


def test_several_tasks_are_corrected_for_their_number_and_summed_up() -> None:
    # 6 against 0 has p = 2 / 64: told alone, and no more so beside three other tasks.
    one = drawn("pick", 50, 6, 0, 44)
    assert compare(one)[0].told
    rest = [pair for task in ("place", "push", "reach") for pair in drawn(task, 50, 3, 3, 44)]
    rows = {row.task: row for row in compare([*one, *rest])}
    assert rows["pick"].adjusted == pytest.approx(4 * 2 / 64)
    # 5 % / 4 has 2.4977 for 1.96: (2.4977 sqrt(0.06) + 0.8416 sqrt(0.0564))^2 / 0.0036 = 183.0.
    assert not rows["pick"].told and rows["pick"].more == 84
    assert "About 84 more scenes" in rows["pick"].sentence("a", "b")
    assert (rows["all"].only_a, rows["all"].only_b, rows["all"].a.n) == (15, 9, 400)
    assert compare([]) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.delenv("VLM4VLA_LOCAL", raising=False)
    # The project's own results would come in beside those that the tests count.
    monkeypatch.setattr("vlm4vla.commands.compare.SHIPPED", tmp_path / "none")


def test_the_command_says_what_the_scenes_can_tell(home, capsys) -> None:
    table = EpisodeTable()
    for seed in range(10):
        table.put(example(seed), [EVALUATION])
        table.put(example(seed, outcome="dropped", **agent(OTHER)), [EVALUATION])
    assert main(["compare", AGENT, OTHER, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["a"], found["b"]) == (AGENT, OTHER)
    [row] = found["tasks"]
    assert (row["task"], row["only_a"], row["a"]["n"], row["told"]) == ("pick", 10, 10, True)
    assert row["p"] == pytest.approx(2 / 1024)
    assert main(["compare", AGENT, OTHER]) == 0
    assert capsys.readouterr().out.startswith(f"pick: {AGENT} succeeds more often than {OTHER}: 10")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((AGENT,), "same agent under the same condition"),
        ((AGENT, "fedcba9876543210"), "no test scene with the same goal"),
        ((AGENT, "no-such-checkpoint"), "There is no checkpoint no-such-checkpoint"),
        ((AGENT, OTHER, "--condition-b", "{"), "is no condition"),
    ],
)
def test_what_cannot_be_compared_is_said(home, arguments, said, capsys) -> None:
    assert main(["compare", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_candidates_are_what_was_drawn_the_newest_first(table: EpisodeTable) -> None:
    table.put(example(0), [EVALUATION], created=1.0)
    table.put(example(1), [EVALUATION], created=2.0)
    table.put(example(1, **agent(OTHER)), [EVALUATION], created=5.0)
    other_goal = {"task": "pick", "object": "blue ball"}
    table.put(example(1, alternate=True, goal=other_goal), [EVALUATION], created=9.0)
    table.put(example(2), [LIVE], created=10.0)
    table.put(example(SELECT), [Membership("selection")], created=11.0)
    found = candidates(table)
    assert [(one.side.agent, one.side.condition.goal, one.n) for one in found] == [
        (AGENT, "alternate", 1),
        (OTHER, "first", 1),
        (AGENT, "first", 2),
    ]
    assert len({one.side.key for one in found}) == 3
    # The alternate goal is another one, so the newest two that share a scene are the others.
    chosen = newest_that_share(table, found)
    assert chosen is not None
    assert [one.side.agent for one in chosen] == [AGENT, OTHER]
    assert newest_that_share(table, found[:2]) is None


def test_policies_of_studies_come_after_those_that_are_there_to_be_used(
    table: EpisodeTable,
) -> None:
    table.put(example(0), [EVALUATION], created=1.0)
    table.put(example(0, **agent("a")), [EVALUATION], created=2.0)
    for digest in ("b", "c"):
        table.put(example(0, **agent(digest)), [Membership("study", "cell")], created=3.0)
    found = candidates(table)
    assert [one.side.agent for one in found[:2]] == ["a", AGENT]
    chosen = newest_that_share(table, found)
    assert chosen is not None and {one.side.agent for one in chosen} == {"a", AGENT}


def test_two_agents_under_one_condition_come_before_one_agent_under_two(
    table: EpisodeTable,
) -> None:
    table.put(example(1), [EVALUATION], created=1.0)
    table.put(example(1, **agent(OTHER)), [EVALUATION], created=2.0)
    for created, acted in ((3.0, AGENT), (4.0, OTHER)):
        table.put(example(1, words="broad", **agent(acted)), [EVALUATION], created=created)
    (newest, second, *_), chosen = candidates(table), newest_that_share(table, candidates(table))
    assert chosen == (second, newest)
    broad = Condition(words="broad")
    assert [one.side for one in chosen] == [Side(AGENT, broad), Side(OTHER, broad)]
    # One agent alone is compared with itself.
    alone = [one for one in candidates(table) if one.side.agent == AGENT]
    assert newest_that_share(table, alone) == (alone[1], alone[0])


def test_several_comparisons_are_corrected_together() -> None:
    # 10 against 0 of the scenes that differ: p = 2 / 2**10 for each.
    one = drawn("pick", 5, 10, 0, 5) + drawn("push", 20, 0, 0, 0)
    other = drawn("pick", 5, 10, 0, 5) + drawn("push", 20, 0, 0, 0)
    first, second = compare_several([one, other])
    assert [row.task for row in first] == ["pick", "push", "all"]
    # Four tasks in all (Holm takes the two small ones four and three times, both at least that of
    # the first), and two comparisons over all tasks.
    assert [row.adjusted for row in first[:2]] == pytest.approx([4 * 2 / 2**10, 1])
    assert second[0].adjusted == pytest.approx(4 * 2 / 2**10)
    assert first[2].adjusted == pytest.approx(2 * 2 / 2**10)
    assert compare_several([[], one])[0] == []


def test_the_csv_holds_what_the_plot_shows() -> None:
    rows = compare(drawn("pick", 5, 10, 0, 5))
    lines = to_csv(rows, "one, with a comma", "other").splitlines()
    assert len(lines) == 2
    read = next(csv.DictReader(lines))
    assert read["a"] == "one, with a comma"
    assert (read["n"], read["only_a"], read["a_rate"], read["b_rate"]) == (
        "20",
        "10",
        "0.75",
        "0.25",
    )
    assert float(read["difference"]) == 0.5
