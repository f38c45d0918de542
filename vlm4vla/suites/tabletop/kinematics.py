"""Where the Panda's finger tips are, from its joint angles alone; needs no simulator."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

BASE: Final = (-0.615, 0.0, 0.0)
"""Where the robot's base stands in the world frame, metres; axes parallel."""

_LINKS: Final = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
"""Craig's Denavit-Hartenberg parameters of the joints: a and d in metres, alpha in radians. From
Franka Emika's documentation of the robot, "Robot and interface specifications"."""

_TIP: Final = 0.107 + 0.1034
"""From the last joint's frame to the centre between the finger tips, metres: flange, then hand."""


def finger_tips(joints: NDArray[np.floating]) -> NDArray[np.float64]:
    """The centre between the finger tips, (..., 3) in metres, world frame.

    Args:
        joints: (..., 9) the seven joint angles in radians; the fingers' positions are not read.
    """
    angles = np.asarray(joints, np.float64)
    frame = np.broadcast_to(np.eye(4), (*angles.shape[:-1], 4, 4))
    for index, (a, d, alpha) in enumerate(_LINKS):
        frame = frame @ _link(a, d, alpha, angles[..., index])
    return frame[..., :3, 3] + _TIP * frame[..., :3, 2] + np.array(BASE)


def _link(a: float, d: float, alpha: float, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 4, 4) from a joint's frame to the frame of the joint before."""
    cos, sin = np.cos(angle), np.sin(angle)
    still, ca, sa = np.zeros_like(angle), np.cos(alpha), np.sin(alpha)
    rows = [
        [cos, -sin, still, still + a],
        [sin * ca, cos * ca, still - sa, still - sa * d],
        [sin * sa, cos * sa, still + ca, still + ca * d],
        [still, still, still, still + 1.0],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)
