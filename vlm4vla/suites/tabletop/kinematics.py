"""Where the Panda's finger tips are for given joint positions; needs no simulator."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.observation import Array

ROBOT_BASE: Final = (-0.615, 0.0, 0.0)
"""Where the robot's base stands, world frame, metres."""

_OFFSETS: Final = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_LENGTHS: Final = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_TWISTS: Final = tuple(np.pi / 2 * turn for turn in (0, -1, 1, 1, -1, 1, 1))
"""Modified Denavit-Hartenberg parameters of the seven joints, from Franka's documentation."""

_TO_TIPS: Final = 0.107 + 0.1034
"""From the last joint to the flange, and on to the centre between the finger tips, metres."""


def finger_tips(joints: Array) -> Array:
    """Centres between the finger tips.

    Args:
        joints: (..., 9) joint positions: seven of the arm, radians, and two of the fingers.

    Returns:
        (..., 3) world frame, metres.
    """
    angles = np.asarray(joints, np.float64)
    pose = np.broadcast_to(np.eye(4), (*angles.shape[:-1], 4, 4))
    for place, parameters in enumerate(zip(_OFFSETS, _LENGTHS, _TWISTS, strict=True)):
        pose = pose @ _link(angles[..., place], *parameters)
    tips = pose[..., :3, 3] + _TO_TIPS * pose[..., :3, 2]
    return (tips + ROBOT_BASE).astype(np.float32)


def _link(
    angle: NDArray[np.float64], offset: float, length: float, twist: float
) -> NDArray[np.float64]:
    """(..., 4, 4) transform over one joint."""
    cos, sin = np.cos(angle), np.sin(angle)
    lean, rise = np.sin(twist), np.cos(twist)
    pose = np.zeros((*angle.shape, 4, 4))
    pose[..., 0, 0], pose[..., 0, 1], pose[..., 0, 3] = cos, -sin, offset
    pose[..., 1, 0], pose[..., 1, 1], pose[..., 1, 2:] = (
        sin * rise,
        cos * rise,
        (-lean, -length * lean),
    )
    pose[..., 2, 0], pose[..., 2, 1], pose[..., 2, 2:] = (
        sin * lean,
        cos * lean,
        (rise, length * rise),
    )
    pose[..., 3, 3] = 1
    return pose
