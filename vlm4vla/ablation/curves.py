"""Curves: success by the strength of one perturbation alone."""

import json
from collections.abc import Collection
from typing import Final, NamedTuple

from vlm4vla.ablation.matrix import SPLIT, Cell, compared, condition_of
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.rates import facets
from vlm4vla.episodes.table import EpisodeTable


class Axis(NamedTuple):
    """The number of a perturbation that a curve goes along.

    Attributes:
        number: which.
        label: of the axis, for people.
        usual: where the intact policy stands on it.
    """

    number: str
    label: str
    usual: float


AXES: Final = {
    "picture-blur": Axis("sigma", "blur, pixels", 0.0),
    "picture-noise": Axis("sigma", "noise, grey levels", 0.0),
    "camera": Axis("degrees", "camera turned, degrees", 0.0),
    "light": Axis("factor", "light, times the usual", 1.0),
    "pale": Axis("share", "white in the objects' colours, share", 0.0),
    "size": Axis("factor", "size of the objects, times the usual", 1.0),
    "distractors": Axis("count", "further objects", 0),
}
"""The perturbations that have a curve."""


class Point(NamedTuple):
    """A point of a curve: the strength, and what was measured there."""

    value: float
    cell: Cell


def curves(table: EpisodeTable, agent: str, tasks: Collection[str]) -> dict[str, list[Point]]:
    """The measured curves of an agent by perturbation, each by strength, the intact point too.

    Args:
        table: where the episodes are; nothing is run.
        agent: digest of who acted.
        tasks: which tasks count.
    """
    found = alone(table, agent, tasks)
    answer = {}
    for name, axis in AXES.items():
        if changes := [one for one in found if one.name == name]:
            intact, *cells = compared(table, agent, list(map(condition_of, changes)), tasks)
            values = [float(change.values[axis.number]) for change in changes]
            points = [Point(axis.usual, intact)] if intact.rate.n else []
            points += [Point(*pair) for pair in zip(values, cells, strict=True)]
            answer[name] = sorted(points, key=lambda point: point.value)
    return answer


def alone(table: EpisodeTable, agent: str, tasks: Collection[str]) -> list[Perturbation]:
    """The perturbations under which an agent was measured with nothing else changed.

    Those that hold for a part of an episode are left out.

    Args:
        table: where the episodes are.
        agent: digest of who acted.
        tasks: which tasks count.
    """
    wanted = Filter(agent=agent, split=SPLIT, current=True, task=tuple(tasks))
    found = [
        Condition.from_json(json.loads(one))
        for one in facets(table, wanted, ["condition"])["condition"]
    ]
    return [
        change
        for one in found
        if len(one.perturbations) == 1 and one == Condition(perturbations=one.perturbations)
        for change in one.perturbations
        if not change.first_step and change.last_step is None
    ]
