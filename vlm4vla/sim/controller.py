"""How the arm and the fingers answer one action: a linear model of `pd_ee_delta_pose`.

Measured on 480 random steps over the workspace (`benchmarks/controller.py` repeats it): the model
is off by 1.3 mm a step (root mean square). An action of 1.0 asks for 0.1 m, but the joints cover
only about 40 % of it before the next action sets a new target, and what is left is not carried
over, only the speed is.
"""

from typing import Final

import numpy as np

MOVED: Final = np.array(
    [
        [0.00312, -0.00067, 0.01016, 0.03839, 0.00074, -0.00660],
        [-0.00128, 0.02633, 0.00106, 0.00118, 0.01979, -0.00071],
        [-0.00296, -0.00007, 0.02188, 0.00219, 0.00014, 0.02340],
    ]
)
"""(3, 6): metres moved in a step, from the velocity before it (m/s) and the action's x, y, z."""

VELOCITY: Final = np.array(
    [
        [-0.03584, -0.00263, 0.02294, 0.66088, 0.00093, 0.05112],
        [-0.01538, 0.16995, 0.00290, 0.00092, 0.62497, 0.00254],
        [-0.01399, 0.00117, 0.05022, -0.00654, -0.00195, 0.70651],
    ]
)
"""(3, 6): velocity after the step (m/s), from the same."""

METRES_PER_ACTION: Final = 0.040
"""Metres a step that an action of 1.0 gives when it is repeated."""

MAX_OPENING: Final = 0.08
_CLOSED_TARGET: Final = -0.02
_FINGER_LAG: Final = 0.607
"""Share of the way to the fingers' target that is left after a step."""


def next_opening(opening: float, gripper: float) -> float:
    """Finger opening after a step with nothing between the fingers, metres.

    Args:
        opening: before the step, metres.
        gripper: the action's last number, +1 open or -1 closed.
    """
    target = MAX_OPENING if gripper > 0 else _CLOSED_TARGET
    return max(0.0, target + (opening - target) * _FINGER_LAG)
