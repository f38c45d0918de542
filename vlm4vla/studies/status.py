"""What is done of a cell: a query on the table of episodes."""

from collections.abc import Mapping
from typing import NamedTuple

from vlm4vla.core.condition import Condition
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.rows import STOPPED, Row
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.studies.cell import Cell
from vlm4vla.studies.measures import Measures, measures_of
from vlm4vla.studies.trained import account, checkpoint_of, folder_of, vlm_of

Scene = tuple[str, int]
"""Task and seed."""


class Found(NamedTuple):
    """The episodes of a cell in a table.

    Attributes:
        agent: digest of the policy that carried them out; "" if there are none.
        rows: one a scene, its newest.
        others: how many further policies have episodes in the cell, such as one that was trained
            on another machine. They are not counted.
    """

    agent: str
    rows: Mapping[Scene, Row]
    others: int


def membership(cell: Cell) -> Membership:
    """Where the episodes of a cell belong."""
    return Membership("study", cell.name)


def episodes_of(table: EpisodeTable, cell: Cell) -> Found:
    """The episodes of a cell: of the policy that has most of them, the first one if several do.

    Args:
        table: where they are.
        cell: which.
    """
    kind, name = membership(cell)
    # Not `current` ones alone: the same scene that was run under other versions, for something else
    # than the study, takes nothing out of it.
    wanted = Filter(kind=kind, name=name, task=cell.tasks, condition=Condition())
    policies: dict[str, dict[Scene, Row]] = {}
    for row in table.query(wanted, order="oldest", limit=table.count(wanted)):
        if row.spec.seed in cell.scenes.seeds and row.outcome.kind != STOPPED:
            policies.setdefault(row.agent.digest, {})[row.spec.task, row.spec.seed] = row
    if not policies:
        return Found("", {}, 0)
    agent = max(policies, key=lambda one: len(policies[one]))
    return Found(agent, policies[agent], len(policies) - 1)


def done(table: EpisodeTable, cell: Cell) -> bool:
    """Whether every scene of a cell has its episode."""
    return len(episodes_of(table, cell).rows) == cell.expected


def measured(cell: Cell, agent: str = "") -> Measures | None:
    """What was measured of the policy that a cell's account tells of; None where nothing was.

    Args:
        cell: the cell.
        agent: see `account`.
    """
    known = account(cell, agent)
    if known is None:
        return None
    return measures_of(cell, folder_of(cell), known["agent"], vlm_of(cell, known))


def to_measure(table: EpisodeTable, cell: Cell) -> bool:
    """Whether a cell is evaluated and not measured, and its policy is here."""
    return done(table, cell) and checkpoint_of(cell).is_dir() and measured(cell) is None
