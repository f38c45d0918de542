from dataclasses import replace

import pytest

from tests.episodes.examples import EVALUATION, LIVE, example
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Outcome
from vlm4vla.episodes.filters import EVERYTHING, Filter, Membership, condition_key
from vlm4vla.episodes.rates import FACETS, facets, rates, standing
from vlm4vla.episodes.table import EpisodeTable

AGENT = "bed03166840b0dc4"
SELECT = 100_000


@pytest.fixture
def table() -> EpisodeTable:
    return EpisodeTable.in_memory()


def shown(table: EpisodeTable, wanted: Filter = EVERYTHING) -> list[tuple[int, int]]:
    return sorted((row.rate.successes, row.rate.n) for row in rates(table, wanted))


def test_ten_of_ten_stay_ten_of_ten_whatever_stands_beside_them(table: EpisodeTable) -> None:
    for seed in range(10):
        table.put(example(seed), [EVALUATION])
        failed = {"outcome": "dropped"}
        table.put(example(seed, alternate=True, **failed), [EVALUATION])
        table.put(example(seed, words="trained", **failed), [EVALUATION])
        table.put(example(SELECT + seed, **failed), [Membership("selection")])
    found = rates(table, Filter(agent=AGENT, goal_task="pick"))
    assert len(found) == 4
    assert [
        (row.rate.successes, row.rate.n)
        for row in found
        if row.condition == Condition() and row.split == "test"
    ] == [(10, 10)]
    assert shown(table) == [(0, 10), (0, 10), (0, 10), (10, 10)]
    best = standing(table, AGENT, "pick", {})
    assert (best.rate.successes, best.rate.n) == (10, 10)
    assert best.source == "in evaluations on this machine"


def test_an_evaluation_that_is_started_twice_counts_once(table: EpisodeTable) -> None:
    for _ in range(2):
        for seed in range(3):
            table.put(example(seed, outcome="dropped" if seed else "success"), [EVALUATION])
    assert shown(table) == [(1, 3)]


def test_a_newer_version_s_result_takes_the_older_one_s_place(table: EpisodeTable) -> None:
    for seed in range(3):
        table.put(example(seed, outcome="dropped", versions={"torch": "1"}), created=1.0)
        table.put(example(seed, versions={"torch": "2"}), created=2.0)
    assert shown(table) == [(3, 3)]


@pytest.mark.parametrize(
    "other",
    [
        {"agent": "cc"},
        {"suite": "maniskill"},
        {"goal": {"task": "reach", "object": "red cube", "target": None}},
        {"noisy": True},
        {"replan_every": 1},
        {"words": "trained"},
        {"alternate": True},
        {"reading": "unknown"},
    ],
)
def test_what_differs_is_never_mixed(table: EpisodeTable, other) -> None:
    table.put(example(1), [EVALUATION])
    table.put(example(2, outcome="dropped", **other), [EVALUATION])
    assert shown(table) == [(0, 1), (1, 1)]


def test_scenes_that_people_picked_are_not_mixed_with_those_that_were_drawn(
    table: EpisodeTable,
) -> None:
    table.put(example(1), [EVALUATION])
    table.put(example(2, outcome="dropped"), [LIVE])
    assert {(row.drawn, row.rate.successes) for row in rates(table)} == {(True, 1), (False, 0)}
    # Seen again by a visitor, an evaluated episode is an evaluation's even so.
    table.put(example(1), [LIVE])
    assert {(row.drawn, row.rate.n) for row in rates(table)} == {(True, 1), (False, 1)}


def test_a_known_sentence_counts_beside_a_drawn_one(table: EpisodeTable) -> None:
    table.put(example(1), [EVALUATION])
    table.put(example(2, reading="known"), [EVALUATION])
    assert shown(table) == [(2, 2)]


def test_what_says_nothing_about_one_agent_is_left_out(table: EpisodeTable) -> None:
    takeover = (AgentSpan(AgentId("policy", AGENT)), AgentSpan(AgentId("expert", "expert"), 5))
    table.put(example(1, agents=takeover), [EVALUATION])
    table.put(example(2, parent="0" * 16, branch_step=4), [EVALUATION])
    table.put(example(3, outcome="stopped"), [EVALUATION])
    table.put(example(4), [Membership("imported")])
    assert rates(table) == []
    assert table.count() == 4


def test_shares_and_interval_are_those_of_the_counted_episodes(table: EpisodeTable) -> None:
    for seed in range(8):
        kind = "success" if seed < 6 else "wrong object"
        measures = {"wrong_object": seed >= 6, "old_goal_done": seed == 7}
        table.put(replace(example(seed), outcome=Outcome(kind, "", measures)), [EVALUATION])
    (row,) = rates(table)
    assert (row.rate.n, row.rate.successes, row.rate.rate) == (8, 6, 0.75)
    # Wilson's interval by hand: centre 0.6688, half width 0.2595 at n = 8.
    assert (round(row.rate.low, 3), round(row.rate.high, 3)) == (0.409, 0.929)
    assert (row.wrong_object, row.old_goal_done) == (0.25, 0.125)
    assert (row.agent, row.agent_kind, row.suite) == (AGENT, "policy", "tabletop")


def test_a_filter_chooses_which_are_counted(table: EpisodeTable) -> None:
    table.put(example(1), [Membership("evaluation", "a")])
    table.put(example(2), [Membership("evaluation", "b")])
    table.put(example(3, words="trained"), [Membership("evaluation", "b")])
    assert shown(table, Filter(kind="evaluation", name="b")) == [(1, 1), (1, 1)]
    assert shown(table, Filter(words="known")) == [(2, 2)]
    assert rates(table, Filter(agent="nobody")) == []


def test_facets_count_every_value(table: EpisodeTable) -> None:
    table.put(example(1), [EVALUATION, LIVE])
    table.put(example(2, words="trained", outcome="dropped"), [EVALUATION])
    table.put(example(SELECT, agent="cc"))
    found = facets(table)
    assert set(found) == {*FACETS, "kind"}
    assert found["agent"] == {AGENT: 2, "cc": 1}
    assert found["outcome"] == {"dropped": 1, "success": 2}
    assert found["words"] == {"known": 2, "trained": 1}
    assert found["condition"][condition_key(Condition())] == 2
    assert found["split"] == {"select": 1, "test": 2}
    assert found["kind"] == {"evaluation": 2, "live": 1}
    assert facets(table, Filter(words="trained"))["agent"] == {AGENT: 1}
    some = ["agent", "kind"]
    assert facets(table, of=some) == {name: found[name] for name in some}
    assert facets(table, Filter(kind="live"), ["outcome"]) == {"outcome": {"success": 1}}


def test_the_best_rate_there_is_stands_first(table: EpisodeTable) -> None:
    nothing = standing(table, AGENT, "pick", {})
    assert nothing.rate.n == 0 and "visitors picked" in nothing.source
    given = {"words": GIVEN, "reading": "known"}
    table.put(example(1, **given), [LIVE])
    table.put(example(2, outcome="dropped", **given), [LIVE])
    table.put(example(3, **{**given, "reading": "unknown"}), [LIVE])
    table.put(example(4, noisy=True, **given), [LIVE])
    live = standing(table, AGENT, "pick", {})
    assert (live.rate.successes, live.rate.n) == (1, 2) and "visitors picked" in live.source
    table.put(example(5), [EVALUATION])
    table.put(example(6, outcome="dropped", words="trained"), [EVALUATION])
    here = standing(table, AGENT, "pick", {})
    assert (here.rate.successes, here.rate.n) == (1, 1)
    assert here.source == "in evaluations on this machine"
    published = {"tasks": {"pick": {"n": 200, "successes": 150}}}
    shipped = standing(table, AGENT, "pick", published)
    assert (shipped.rate.successes, shipped.rate.n) == (150, 200)
    assert shipped.source == "in the evaluation that comes with the checkpoint"
    assert standing(table, AGENT, "reach", published).rate.n == 0
