"""Success rates from the table: like is counted with like, and nothing twice."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.episodes.filters import BITS, DRAWN, EVERYTHING, Filter, kinds_of
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.statistics import Rate, wilson

FACETS: Final = (
    "agent",
    "agent_kind",
    "suite",
    "goal_task",
    "condition",
    "words",
    "split",
    "reading_kind",
    "outcome",
    "source",
    "task",
)
"""Columns whose values can be chosen among; `kind` (of membership) comes besides."""


USUAL: Final = Condition()
"""Drawn sentences that training never read, and nothing else changed."""

_PICKED: Final = Condition(words=GIVEN)


class RateRow(NamedTuple):
    """A success rate of episodes that are alike in everything that stands beside it.

    Attributes:
        agent: digest of who acted, from beginning to end.
        agent_kind: "policy" or "expert".
        suite: the benchmark suite.
        goal_task: the task that was carried out.
        condition: what was changed on purpose, words included.
        split: of the seeds: "test", "select", "train" or "none".
        reading: how the instruction was understood; "" where its meaning is known.
        drawn: the scenes were drawn, for an evaluation or a study; not picked by a person.
        rate: successes with their Wilson interval.
        wrong_object: share of the n episodes in which another object was moved.
        old_goal_done: share of the n episodes in which the goal that was only watched was met.
    """

    agent: str
    agent_kind: str
    suite: str
    goal_task: str
    condition: Condition
    split: str
    reading: str
    drawn: bool
    rate: Rate
    wrong_object: float
    old_goal_done: float


def rates(table: EpisodeTable, wanted: Filter = EVERYTHING) -> list[RateRow]:
    """Every rate of the chosen episodes, never mixed over what `RateRow` names.

    A request counts once, with the episode that is `current`. Left out are episodes of several
    agents, those that branch off others, and imported ones whose condition is lost.

    Args:
        table: where they are.
        wanted: which; a request whose `current` episode is not among them does not count.
    """
    where, values = wanted.sql()
    with table.database.reading() as db:
        found = db.execute(
            "SELECT agent, agent_kind, suite, goal_task, condition, split, reading_kind, belongs, "
            "count(*), sum(success), sum(wrong_object), sum(old_goal_done) FROM episodes "
            f"WHERE current = 1 AND single = 1 AND belongs & {BITS['imported']} = 0 AND {where} "
            "GROUP BY agent, agent_kind, suite, goal_task, condition, words, split, reading_kind, "
            "belongs",
            values,
        ).fetchall()
    sums: dict[tuple[Any, ...], list[int]] = {}
    for *alike, reading, belongs, n, successes, wrong, old in found:
        key = (*alike, "" if reading == "known" else reading, bool(belongs & DRAWN))
        known = sums.setdefault(key, [0, 0, 0, 0])
        sums[key] = [a + b for a, b in zip(known, (n, successes, wrong, old), strict=True)]
    return [_rate_row(key, *sums[key]) for key in sorted(sums)]


def _rate_row(key: tuple[Any, ...], n: int, successes: int, wrong: int, old: int) -> RateRow:
    agent, agent_kind, suite, goal_task, condition, split, reading, drawn = key
    return RateRow(
        agent,
        agent_kind,
        suite,
        goal_task,
        Condition.from_json(json.loads(condition)),
        split,
        reading,
        drawn,
        wilson(successes, n),
        wrong / n,
        old / n,
    )


def facets(
    table: EpisodeTable, wanted: Filter = EVERYTHING, of: Sequence[str] = (*FACETS, "kind")
) -> dict[str, dict[str, int]]:
    """How many of the chosen episodes have which value.

    Conditions stand there as canonical JSON; see `Condition.from_json`.

    Args:
        table: where they are.
        wanted: which.
        of: some of `FACETS` and "kind"; the fewer, the sooner.
    """
    where, values = wanted.sql()
    # The index holds them all, in this order: no row is read, and nothing sorted. Left to itself,
    # SQLite would look up the rows of a membership one by one.
    order = (*FACETS[:8], "belongs", *FACETS[8:])
    columns = [name for name in order if name in of or (name == "belongs" and "kind" in of)]
    with table.database.reading() as db:
        found = db.execute(
            f"SELECT {', '.join(columns)}, count(*) FROM episodes INDEXED BY counted "
            f"WHERE {where} GROUP BY {', '.join(columns)}",
            values,
        ).fetchall()
    counts: dict[str, dict[str, int]] = {name: {} for name in of}
    for *shown, n in found:
        for name, value in zip(columns, shown, strict=True):
            column = "kind" if name == "belongs" else name
            for one in kinds_of(value) if column == "kind" else (value,):
                counts[column][one] = counts[column].get(one, 0) + n
    return {name: dict(sorted(values.items())) for name, values in counts.items()}


def evaluated(table: EpisodeTable, agent: str, *, condition: Condition = USUAL) -> dict[str, Rate]:
    """Success rates by task from an agent's evaluations in a table.

    Args:
        table: the episodes that are kept here.
        agent: digest of the agent.
        condition: under which evaluations are counted.
    """
    return {
        one.goal_task: one.rate
        for one in rates(table, Filter(agent=agent))
        if one.drawn and one.split == "test" and one.condition == condition and not one.reading
    }


class Standing(NamedTuple):
    """A success rate and where it is from, as the end of a sentence."""

    rate: Rate
    source: str


def standing(
    table: EpisodeTable,
    agent: str,
    goal_task: str,
    published: Mapping[str, Any],
    *,
    condition: Condition = USUAL,
) -> Standing:
    """The rate of an agent on a task from the best episodes there are.

    Args:
        table: the episodes that are kept here.
        agent: digest of the agent.
        goal_task: what is to be done.
        published: the evaluation that travels with the checkpoint, as `vlm4vla eval --json` prints
            it; empty if there is none. It comes first: anyone can look it up.
        condition: under which evaluations are counted.
    """
    if row := published.get("tasks", {}).get(goal_task):
        return Standing(
            wilson(row["successes"], row["n"]), "in the evaluation that comes with the checkpoint"
        )
    if here := evaluated(table, agent, condition=condition).get(goal_task):
        return Standing(here, "in evaluations on this machine")
    picked = [
        one.rate
        for one in rates(table, Filter(agent=agent, goal_task=goal_task))
        if not one.drawn and one.condition == _PICKED and not one.reading
    ]
    most = max(picked, key=lambda rate: rate.n, default=wilson(0, 0))
    return Standing(most, "among episodes kept here, whose scenes visitors picked")
