"""How the arm and the fingers answer one action: a measured model of `pd_ee_delta_pose`.

An action of 1.0 asks for 0.1 m, but the joints cover only about 40 % of it before the next action
sets a new target, and what is left is not carried over, only the speed is. The arm's part is
linear in speed and action, with coefficients that change linearly over the workspace;
`benchmarks/controller.py` measured it and tells how far off it is.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

METRES_PER_ACTION: Final = 0.040
"""Metres a step that an action of 1.0 gives when it is repeated."""

MAX_OPENING: Final = 0.08
_CLOSED_TARGET: Final = -0.02
_FINGER_LAG: Final = 0.607
"""Share of the way to the fingers' target that is left after a step."""

_MIDDLE: Final = np.array([-0.05, 0.0, 0.10])
_MEASURED: Final = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
_MOVED: Final = np.array(_MEASURED["moved"])
_VELOCITY: Final = np.array(_MEASURED["velocity"])


def features(tip: Vector, velocity: Vector, action: Vector) -> Vector:
    """(24,) what the model is linear in: speed and action, alone and times each coordinate."""
    drive = np.concatenate([velocity, action])
    return np.outer(np.concatenate([[1.0], tip - _MIDDLE]), drive).ravel()


def respond(tip: Vector, velocity: Vector, action: Vector) -> tuple[Vector, Vector]:
    """Where the finger tips are after a step, and how fast.

    Args:
        tip: (3,) before the step, world frame, metres.
        velocity: (3,) before the step, metres a second.
        action: (3,) x, y, z of the action, in [-1, 1].

    Returns:
        (3,) metres and (3,) metres a second.
    """
    given = features(tip, velocity, action)
    return tip + _MOVED @ given, _VELOCITY @ given


def next_opening(opening: float, gripper: float) -> float:
    """Finger opening after a step with nothing between the fingers, metres.

    Args:
        opening: before the step, metres.
        gripper: the action's last number, +1 open or -1 closed.
    """
    target = MAX_OPENING if gripper > 0 else _CLOSED_TARGET
    return max(0.0, target + (opening - target) * _FINGER_LAG)
