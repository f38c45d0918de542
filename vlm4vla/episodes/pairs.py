"""Pairs of episodes: two sides on the same scenes with the same goals."""

from typing import NamedTuple

from vlm4vla.core.condition import Condition
from vlm4vla.episodes.filters import BITS, DRAWN, Filter
from vlm4vla.episodes.table import EpisodeTable


class Side(NamedTuple):
    """One side of a comparison.

    Attributes:
        agent: digest of who acted, from beginning to end.
        condition: what was changed on purpose.
    """

    agent: str
    condition: Condition


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


def _halves(table: EpisodeTable, side: Side, split: str) -> dict[_Key, Half]:
    wanted = Filter(agent=side.agent, condition=side.condition, split=split, current=True)
    where, values = wanted.sql()
    with table.database.reading() as db:
        found = db.execute(
            "SELECT suite, goal_task, seed, goal, id, success FROM episodes "
            f"WHERE single = 1 AND reading_kind IN ('', 'known') AND belongs & {DRAWN} <> 0 "
            f"AND belongs & {BITS['imported']} = 0 AND {where} ORDER BY created, id",
            values,
        ).fetchall()
    return {
        (suite, task, seed, goal): Half(key, bool(success))
        for suite, task, seed, goal, key, success in found
    }
