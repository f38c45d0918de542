"""Pairs of episodes: two sides on the same scenes with the same goals."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from vlm4vla.core.condition import Condition
from vlm4vla.episodes.filters import BITS, DRAWN, Filter, condition_key
from vlm4vla.episodes.table import EpisodeTable


class Side(NamedTuple):
    """One side of a comparison.

    Attributes:
        agent: digest of who acted, from beginning to end.
        condition: what was changed on purpose.
    """

    agent: str
    condition: Condition

    @property
    def key(self) -> str:
        """Short text that stands for it in an address."""
        changed = hashlib.sha256(condition_key(self.condition).encode()).hexdigest()[:8]
        return f"{self.agent}-{changed}"


class Candidate(NamedTuple):
    """A side that the table has drawn scenes of.

    Attributes:
        side: who, under which condition.
        name: what people called the agent when it last acted; "" if nobody did.
        n: how many drawn scenes.
    """

    side: Side
    name: str
    n: int


class Half(NamedTuple):
    """What one side made of a scene: its episode's id, and whether the goal was reached."""

    id: str
    success: bool


class Pair(NamedTuple):
    """A scene with one goal, and what either side made of it."""

    suite: str
    task: str
    seed: int
    a: Half
    b: Half


def pairs(table: EpisodeTable, a: Side, b: Side, split: str = "test") -> list[Pair]:
    """The drawn scenes of a split that both sides were given with the same goal.

    Left out are episodes of several agents, those that branch off others, scenes that a person
    picked, and those whose sentence was not judged.

    Args:
        table: where the episodes are.
        a: one side.
        b: the other.
        split: of the seeds; see `vlm4vla.seeds.split_of`.
    """
    found_a, found_b = _halves(table, a, split), _halves(table, b, split)
    return [
        Pair(suite, task, seed, found_a[key], found_b[key])
        for key in sorted(found_a.keys() & found_b.keys())
        for suite, task, seed, _ in [key]
    ]


_Key = tuple[str, str, int, str]
_Two = tuple[Candidate, Candidate]

_COUNTED: Final = (
    "current = 1 AND single = 1 AND reading_kind IN ('', 'known') "
    f"AND belongs & {DRAWN} <> 0 AND belongs & {BITS['imported']} = 0"
)


def candidates(table: EpisodeTable, split: str = "test") -> list[Candidate]:
    """Every side that the table has drawn scenes of, the one that acted last first.

    Sides that only studies know come after the others: a study has many policies, and none of them
    is there to be used.

    Args:
        table: where the episodes are.
        split: of the seeds.
    """
    with table.database.reading() as db:
        # SQLite takes columns outside an aggregate from the row that holds the one maximum; what
        # only studies know is put thousands of years back.
        found = db.execute(
            "SELECT agent, condition, agents, max(created - 1e11 * (belongs & ? = 0)) AS newest, "
            "count(DISTINCT json_array(suite, goal_task, seed, goal)) FROM episodes "
            f"WHERE {_COUNTED} AND split = ? GROUP BY agent, condition ORDER BY newest DESC, id",
            (DRAWN & ~BITS["study"], split),
        ).fetchall()
    return [
        Candidate(
            Side(agent, Condition.from_json(json.loads(condition))),
            json.loads(agents)[0]["name"],
            n,
        )
        for agent, condition, agents, _, n in found
    ]


def newest_that_share(
    table: EpisodeTable, known: list[Candidate], split: str = "test"
) -> _Two | None:
    """The two newest sides that were given a scene with the same goal; None if no two were.

    Two agents under one unchanged condition are preferred: which of them acts better is what
    people ask first.

    Args:
        table: where the episodes are.
        known: its sides, the newest first.
        split: of the seeds.
    """
    seen = dict[Side, set[_Key]]()

    def scenes(side: Side) -> set[_Key]:
        if side not in seen:
            seen[side] = set(_halves(table, side, split))
        return seen[side]

    def sharing(wanted: Callable[[_Two], bool]) -> Iterator[_Two]:
        for place, later in enumerate(known):
            for earlier in known[:place]:
                # The later in the list is the older one: what a newer one is compared with.
                pair = (later, earlier)
                if wanted(pair) and scenes(later.side) & scenes(earlier.side):
                    yield pair

    return next(sharing(_two_agents), None) or next(sharing(bool), None)


def _two_agents(pair: _Two) -> bool:
    a, b = (one.side for one in pair)
    return a.agent != b.agent and a.condition == b.condition and not a.condition.perturbations


def _halves(table: EpisodeTable, side: Side, split: str) -> dict[_Key, Half]:
    wanted = Filter(agent=side.agent, condition=side.condition, split=split, current=True)
    where, values = wanted.sql()
    with table.database.reading() as db:
        found = db.execute(
            "SELECT suite, goal_task, seed, goal, id, success FROM episodes "
            f"WHERE {_COUNTED} AND {where} ORDER BY created, id",
            values,
        ).fetchall()
    return {
        (suite, task, seed, goal): Half(key, bool(success))
        for suite, task, seed, goal, key, success in found
    }
