"""Attribution targets: the one number a prediction that is explained, with gradients.

Shapes: R rows, n actions a chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vlm4vla.action import ARM, ActionSpec
from vlm4vla.errors import UserError
from vlm4vla.model.head import Prediction


@dataclass(frozen=True)
class Target:
    """An attribution target.

    Attributes:
        name: what it is chosen by.
        unit: of its values.
        of: values (R,) from R predictions, the prediction of one row for the unchanged picture
            and sentence, and the meaning of the actions. Gradients flow into the predictions.
        has_slope: whether it has a gradient at the unchanged picture.
    """

    name: str
    unit: str
    of: Callable[[Prediction, Prediction, ActionSpec], Tensor]
    has_slope: bool = True


def commands(prediction: Prediction, spec: ActionSpec) -> Tensor:
    """The arm's commands (R, n, 6) in the environment's units, as `ActionSpec.unnormalise` has."""
    arm = prediction.arm
    low, high, still = (arm.new_tensor(v) for v in (spec.low, spec.high, spec.still))
    moved = (arm * spec.clip + 1) / 2 * (high - low) + low
    return torch.where(torch.tensor(spec.moves, device=arm.device), moved, still)


def displacement(prediction: Prediction, spec: ActionSpec) -> Tensor:
    """Where the first action sends the hand, (R, 3) in millimetres.

    Raises:
        UserError: the first three units of the actions are no lengths.
    """
    lengths = spec.millimetres()
    first = commands(prediction, spec)[:, 0, :3]
    return first * first.new_tensor(lengths)


def _along(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
    before = displacement(intact, spec)
    return displacement(prediction, spec) @ torch.nn.functional.normalize(before, dim=-1)[0]


def _length(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
    return displacement(prediction, spec).norm(dim=-1)


def _agreement(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
    return -(displacement(prediction, spec) - displacement(intact, spec)).norm(dim=-1)


def _direction(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
    moved, before = displacement(prediction, spec), displacement(intact, spec)
    across = torch.linalg.cross(moved, before.expand_as(moved)).norm(dim=-1)
    # Exact for small angles, where the cosine's inverse is not.
    return -torch.rad2deg(torch.atan2(across, (moved * before).sum(-1)))


def _gripper(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
    return prediction.gripper[:, 0]


def dimension(name: str, step: int) -> Target:
    """One number of the arm's commands, in the environment's units.

    Args:
        name: one of `vlm4vla.action.ARM`.
        step: which action of the chunk, from 0.

    Raises:
        UserError: there is no such dimension; a step that the chunk lacks is told when it is used.
    """
    if name not in ARM:
        raise UserError(f"Unknown dimension {name!r}; known: {', '.join(ARM)}.")

    def of(prediction: Prediction, intact: Prediction, spec: ActionSpec) -> Tensor:
        if not 0 <= step < spec.chunk:
            raise UserError(f"A chunk of {spec.chunk} actions has no step {step}.")
        return commands(prediction, spec)[:, step, ARM.index(name)]

    return Target(f"{name}@{step}", "command", of)


DISPLACEMENT: Final = Target("displacement", "mm", _along)
"""How far the first action goes the way that the unchanged one goes; signed."""

LENGTH: Final = Target("length", "mm", _length)
"""How far the first action goes, whichever way."""

AGREEMENT: Final = Target("agreement", "mm", _agreement, has_slope=False)
"""Minus the distance between where the first action goes and where the unchanged one goes.

At most 0, and 0 for the unchanged one, so it also falls where an action turns aside. It has no
slope there: methods that look at changes can use it, the plain gradient cannot."""

DIRECTION: Final = Target("direction", "degrees", _direction, has_slope=False)
"""Minus the angle between where the first action goes and where the unchanged one goes.

Within -180 to 0, whatever the lengths; it has no slope at the unchanged picture."""

GRIPPER: Final = Target("gripper", "logit", _gripper)
"""The first action's gripper logit, positive for open."""

TARGETS: Final = {one.name: one for one in (DISPLACEMENT, LENGTH, AGREEMENT, DIRECTION, GRIPPER)}


def require_slope(target: Target) -> None:
    """Makes sure that a target has a gradient at the unchanged picture.

    Raises:
        UserError: it has none.
    """
    if not target.has_slope:
        raise UserError(
            f"The target {target.name!r} has no slope at the unchanged picture.",
            "Choose another target, or occlusion.",
        )
