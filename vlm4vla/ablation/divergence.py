"""How far a perturbed policy's actions part from the intact one's on the same scenes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlm4vla.action import ActionSpec
from vlm4vla.core.episode import Episode


class Divergence(NamedTuple):
    """The distance of executed actions at one control step.

    Attributes:
        step: control steps since the episode began.
        mm: mean distance of the two commanded displacements, in millimetres.
        n: pairs of episodes in which both were still acting.
    """

    step: int
    mm: float
    n: int


def divergence(pairs: Sequence[tuple[Episode, Episode]], action: ActionSpec) -> list[Divergence]:
    """Distances of executed actions by step, as long as any pair is still acting.

    Until the second inference both stood in the same state, so what they differ by is the
    perturbation's doing alone. From then on they also see different things.

    Args:
        pairs: the perturbed episode and the intact one of each scene.
        action: what the actions mean.

    Raises:
        UserError: the first three units of the actions are no lengths.
    """
    scale = np.array(action.millimetres())
    apart: list[list[float]] = []
    for one, other in pairs:
        steps = min(len(one.actions), len(other.actions))
        moves = (one.actions[:steps, :3] - other.actions[:steps, :3]) * scale
        for step, distance in enumerate(np.linalg.norm(moves, axis=1)):
            if step == len(apart):
                apart.append([])
            apart[step].append(float(distance))
    return [
        Divergence(step, round(float(np.mean(found)), 3), len(found))
        for step, found in enumerate(apart)
    ]
