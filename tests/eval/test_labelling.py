"""Questions about failures: addresses, counts, what people say, downloads."""

import csv
import io
import json
from dataclasses import replace

import pytest

from tests.episodes.examples import EVALUATION, LIVE, example
from tests.suites.tabletop.moved import episode_of
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, Trace
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.labels import SUCCESS, UNTOLD, Region
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.labelling import (
    COLUMNS,
    MOST_NOTE,
    OTHER,
    Query,
    as_csv,
    as_jsonl,
    examine,
    label_missing,
    neighbours,
    question_about,
    say,
    summarise,
    wall,
)
from vlm4vla.statistics import wilson
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.suite import scene_of

OLD, NEW = AgentId("policy", "old0old0", "old"), AgentId("policy", "new0new0", "new")


def filled() -> EpisodeTable:
    """Ten picks and four stacks of a new agent (3 and 4 failed), five picks of an old one."""
    table = EpisodeTable.in_memory()
    for seed in range(10):
        outcome = "not reached" if seed < 3 else "success"
        put(table, "pick", seed, outcome, NEW, 2e9)
    for seed in range(4):
        put(table, "stack", seed, "not reached", NEW, 2e9)
    for seed in range(5):
        put(table, "pick", seed, "not reached", OLD, 1e9)
    put(table, "pick", 50, "not reached", NEW, 3e9, kind=LIVE)
    label_missing(table)
    return table


def put(table, task, seed, outcome, agent, when, *, kind=EVALUATION, condition=Condition()):  # noqa: B008
    one = episode_of(task, steps=2, seed=seed, outcome=outcome, agent=agent, condition=condition)
    table.put(one, [kind], created=when + seed)
    return one.id


def test_a_question_left_open_is_about_the_newest_evaluation() -> None:
    found = summarise(filled(), Query())
    assert found.query.agent == (NEW.digest,)
    assert found.query.condition == ("known sentences",)
    low, high = wilson(7, 14)[3:]
    assert found.sentence == (
        f"All tasks: 7 of 14 failed (95 % {100 * low:.0f} to {100 * high:.0f} %). 7 never reached."
    )
    assert (found.total, found.missing) == (7, 0)
    cells = {(one.task, one.label): one.rate[:2] for one in found.cells}
    assert cells == {("pick", "never reached"): (10, 3), ("stack", "never reached"): (4, 4)}


def test_one_task_is_one_sentence() -> None:
    found = summarise(filled(), Query(task=("stack",)))
    assert found.sentence.startswith("stack: 4 of 4 failed")
    assert [one.row.goal_task for one in wall(filled(), found)] == ["stack"] * 4


def test_facets_count_under_what_the_other_ones_choose() -> None:
    found = summarise(filled(), Query(task=("stack",)))
    tasks = {one.value: (one.failed, one.n, one.chosen) for one in found.facets["task"]}
    assert tasks == {"pick": (3, 10, False), "stack": (4, 4, True)}
    agents = {one.value: (one.text, one.failed, one.n) for one in found.facets["agent"]}
    # The old agent has no stack.
    assert agents == {NEW.digest: (f"new ({NEW.digest})", 4, 4)}
    every = summarise(filled(), Query(agent=("all",)))
    assert every.failed[:2] == (19, 12)


def test_successes_are_shown_where_they_are_asked_for() -> None:
    table = filled()
    found = summarise(table, Query(label=(SUCCESS,)))
    assert found.total == 7 and len(wall(table, found)) == 7
    assert {one.automatic.label for one in wall(table, found)} == {SUCCESS}
    # The sentence is still about failures.
    assert found.sentence.startswith("All tasks: 7 of 14 failed")


def test_a_region_of_the_table_is_a_filter_of_everything() -> None:
    table = filled()
    spec = TABLETOP.spec("stack", 2, Condition())
    lay = next(one for one in scene_of(spec).objects if one.name == spec.goal["object"])
    region = Region(lay.x - 1e-4, lay.x + 1e-4, lay.y - 1e-4, lay.y + 1e-4)
    found = summarise(table, Query(region=region))
    assert [one.row.spec.seed for one in wall(table, found) if one.row.goal_task == "stack"] == [2]
    assert found.total == found.failed.successes <= found.failed.n < 14


def kinds_of(table: EpisodeTable, query: Query) -> dict[str, tuple[int, int]]:
    return {one.value: (one.failed, one.n) for one in summarise(table, query).facets["kind"]}


def test_every_kind_of_episode_can_be_chosen() -> None:
    table = filled()
    ablation, study = Membership("study", "ablation"), Membership("study", "0c00a45e2ec1")
    blank = Condition(perturbations=(perturbation("picture-blank"),))
    for seed in range(3):
        put(table, "push", seed, "not reached", NEW, 1e9, kind=ablation, condition=blank)
    both = put(table, "push", 7, "success", OLD, 1e9, kind=study)
    label_missing(table)
    # Of every agent and condition, as long as the question leaves them open: 5 of the old agent.
    wanted = {"evaluation": (12, 19), "live": (1, 1), "ablation": (3, 3), "study": (0, 1)}
    assert kinds_of(table, Query()) == wanted
    assert summarise(table, Query()).whole["kind"][2:4] == (16, 24)
    known = Query(agent=(NEW.digest,), condition=("known sentences",))
    assert kinds_of(table, known) == {"evaluation": (7, 14), "live": (1, 1)}
    # One that is of two kinds is counted with both, and once in all.
    table.join(both, ablation)
    assert kinds_of(table, Query())["ablation"] == (3, 4)
    assert summarise(table, Query()).whole["kind"][2:4] == (16, 24)
    for kind, n in (("study", 1), ("ablation", 4), ("all", 24)):
        every = Query(kind=kind, agent=("all",), condition=("all",), label=("all",))
        found = summarise(table, every)
        assert found.total == n == len(wall(table, found))
    assert summarise(table, Query(kind="study")).query.agent == (OLD.digest,)


def test_failures_and_successes_are_shown_together_where_all_are_asked_for() -> None:
    table = filled()
    found = summarise(table, Query(label=("all",)))
    labels = [one.automatic.label for one in wall(table, found)]
    assert found.total == 14 and labels == ["never reached"] * 7 + [SUCCESS] * 7
    assert found.whole["label"] == ("all", "all", 7, 14, True)


def test_a_condition_that_no_episode_has_holds_none() -> None:
    table = filled()
    found = summarise(table, Query(condition=("nonsense",)))
    assert found.total == 0 == len(wall(table, found))


def test_counts_are_those_of_now() -> None:
    table = filled()
    assert summarise(table, Query()).failed[:2] == (14, 7)
    key = put(table, "pick", 90, "not reached", NEW, 2e9)
    label_missing(table)
    assert summarise(table, Query()).failed[:2] == (15, 8)
    say(table, key, "dropped", "ann")
    assert summarise(table, Query()).kappa.n == 1
    table.join(key, Membership("study", "ablation"))
    assert kinds_of(table, Query())["ablation"] == (1, 1)
    # A newer run of the same request takes its place.
    put(table, "pick", 90, "success", NEW, 4e9)
    label_missing(table)
    assert summarise(table, Query()).failed[:2] == (15, 7)
    table.drop(key)
    assert summarise(table, Query()).failed[:2] == (14, 7)


def test_a_question_about_a_run_holds_it() -> None:
    table = EpisodeTable.in_memory()
    keys = [put(table, "pick", seed, "not reached", NEW, 1e9) for seed in range(30)]
    live = put(table, "pick", 50, "not reached", NEW, 3e9, kind=LIVE)
    done = put(table, "stack", 1, "success", OLD, 3e9)
    unjudged = put(table, "stack", 2, "not judged", OLD, 3e9)
    label_missing(table)
    # The newest comes first: of 30, the first six that were put are on the second page.
    for key, kind, page in (
        (keys[0], "evaluation", 2),
        (keys[29], "evaluation", 1),
        (live, "live", 1),
    ):
        query = question_about(table, key)
        assert (query.kind, query.page, query.label) == (kind, page, ())
        assert key in [one.row.id for one in wall(table, summarise(table, query))]
    query = question_about(table, done)
    assert query.label == ("all",)
    assert [one.row.id for one in wall(table, summarise(table, query))] == [done]
    with pytest.raises(UserError, match="in no list"):
        question_about(table, unjudged)
    with pytest.raises(UserError, match="no such stored episode"):
        question_about(table, "gone")


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(kind="ablation", label=("all",)),
        Query(task=("stack", "pick"), label=("let go beside",), page=3),
        Query(kind="live", agent=("all",), condition=("known sentences, alternate goal",)),
        Query(region=Region(-0.1, 0.05, 0.0, 0.125), objects=("3",), human=("not labelled",)),
    ],
)
def test_an_address_asks_what_was_asked(query: Query) -> None:
    assert Query.from_address(query.to_address()) == query
    assert all(isinstance(value, str) and value for value in query.to_address().values())


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ({"page": "-1"}, Query()),
        ({"page": "9" * 50}, Query()),
        ({"kind": "nonsense"}, Query()),
        ({"x": "1~2"}, Query()),
        ({"x": "a~b", "y": "0~1"}, Query()),
        ({"x": "0~nan", "y": "0~1"}, Query()),
        ({"x": "0~inf", "y": "0~1"}, Query()),
        ({"x": "0.1~-0.1", "y": "0~1"}, Query(region=Region(-0.1, 0.1, 0.0, 1.0))),
        ({"task": "~stack~~"}, Query(task=("stack",))),
        ({"run": "17", "__theme": "dark"}, Query()),
        ({"objects": "99999999999999999999~abc~3"}, Query(objects=("3",))),
    ],
)
def test_an_address_that_makes_no_sense_is_read_without_it(address, query) -> None:
    assert Query.from_address(address) == query


def test_a_question_about_nothing_has_an_answer() -> None:
    empty = summarise(EpisodeTable.in_memory(), Query())
    assert empty.sentence == "All tasks: no judged episode."
    assert (empty.total, empty.cells, empty.kappa.kappa) == (0, (), None)
    odd = summarise(filled(), Query(task=("nonsense", "'; DROP TABLE episodes")))
    assert odd.total == 0 and len(wall(filled(), odd)) == 0
    assert [one for one in odd.facets["task"] if one.chosen]


def test_every_episode_is_labelled_once() -> None:
    table, told = filled(), []
    assert label_missing(table) == 0
    put(table, "pick", 70, "not reached", NEW, 2e9)
    assert label_missing(table, lambda done, count: told.append((done, count))) == 1
    assert told == [(1, 1)]


def test_a_row_that_does_not_tell_what_moved_is_not_explained() -> None:
    episode = episode_of("pick", steps=2)
    untold = examine(replace(episode, trace=Trace.empty()))
    assert (untold.label, untold.objects, untold.x) == (UNTOLD, 0, None)
    assert examine(example(1, suite="gone", outcome="dropped")).label == UNTOLD
    assert examine(example(1, suite="gone")).label == SUCCESS
    there = examine(replace(episode, outcome=replace(episode.outcome, kind="success")))
    assert there.label == SUCCESS and there.x is not None


def test_an_episode_stands_between_its_neighbours_on_the_wall() -> None:
    table = filled()
    order = [one.row.id for one in wall(table, summarise(table, Query()))]
    assert len(order) == 7
    middle = neighbours(table, Query(page=9), order[3])
    assert (middle.place, middle.total) == (4, 7)
    assert middle.previous and middle.next
    assert (middle.previous.id, middle.next.id) == (order[2], order[4])
    # The question is told with what it left open, so that it stays the same.
    assert middle.query.agent == (NEW.digest,)
    first, last = (neighbours(table, Query(), order[end]) for end in (0, -1))
    assert first.previous is None and last.next is None
    # An episode that is not among them leads to the first.
    other = neighbours(table, Query(task=("stack",)), order[-1])
    assert (other.total, other.place, other.previous) == (4, 0, None)
    assert other.next and other.next.id == order[0]


def test_what_people_say_is_compared_with_the_rules() -> None:
    table = filled()
    keys = [one.row.id for one in wall(table, summarise(table, Query()))]
    for key in keys[:3]:
        say(table, key, "never reached", "ann")
    say(table, keys[3], OTHER, "ann", "it slipped")
    say(table, keys[4], "", "bob", "a note alone")
    found = summarise(table, Query())
    assert (found.kappa.n, found.kappa.agreed) == (4, 3)
    said = {one.value: one.failed for one in found.facets["human"]}
    assert said == {"never reached": 3, OTHER: 1, "not labelled": 3}
    assert summarise(table, Query(human=(OTHER,))).total == 1
    # Somebody else may say something else later.
    say(table, keys[0], "wrong object", "bob")
    assert summarise(table, Query()).kappa.agreed == 2


@pytest.mark.parametrize(
    ("label", "who", "note", "why"),
    [
        ("nonsense", "ann", "", "Unknown label"),
        (SUCCESS, "ann", "", "Unknown label"),
        ("", "ann", "  ", "Nothing was said"),
        ("dropped", " ", "", "name"),
        ("dropped", "a" * 41, "", "name"),
        ("dropped", "ann", "x" * (MOST_NOTE + 1), "at most 500"),
    ],
)
def test_nonsense_is_not_kept(label: str, who: str, note: str, why: str) -> None:
    table = filled()
    key = table.query(limit=1)[0].id
    with pytest.raises(UserError, match=why):
        say(table, key, label, who, note)
    assert table.labels(key) == []
    with pytest.raises(UserError, match="no such stored episode"):
        say(table, "gone", "dropped", "ann")


def test_downloads_hold_every_episode_of_the_question() -> None:
    table = filled()
    key = put(table, "stack", 9, "not reached", NEW, 2e9)
    label_missing(table)
    say(table, key, "dropped", "ann", '=HYPERLINK("x")')
    found = summarise(table, Query(task=("stack",)))
    lines = [json.loads(line) for line in as_jsonl(table, found)]
    assert len(lines) == found.total == 5
    assert all(tuple(line) == COLUMNS for line in lines)
    mine = next(line for line in lines if line["id"] == key)
    assert (mine["label"], mine["human"], mine["who"]) == ("never reached", "dropped", "ann")
    assert mine["numbers"]["nearest_cm"] > 0 and mine["notes"] == [["ann", '=HYPERLINK("x")']]
    rows = list(csv.DictReader(io.StringIO("".join(as_csv(table, found)))))
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert json.loads(rows[0]["numbers"]) == lines[0]["numbers"]


def test_a_table_for_spreadsheets_holds_no_formula() -> None:
    table = EpisodeTable.in_memory()
    one = episode_of("pick", steps=2, outcome="not reached")
    spec = replace(one.spec, instruction='=cmd("x")')
    table.put(replace(one, spec=spec), [EVALUATION])
    label_missing(table)
    [row] = csv.DictReader(io.StringIO("".join(as_csv(table, summarise(table, Query())))))
    assert row["instruction"] == '\'=cmd("x")'
