"""Observations: what an agent may see. Truth is not among it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Observation:
    """An observation: everything that an agent is given before it acts.

    There is no room for the simulator's true state here: an agent that needs it, such as a
    scripted expert, has to ask the environment (`vlm4vla.core.agent.PrivilegedAgent`).

    Attributes:
        step: control steps since the episode began.
        images: camera name to (H, W, 3) uint8 RGB, of the cameras that were asked for.
        proprio: (d,) float32, what the robot's own sensors tell; empty where there are none.
    """

    step: int
    images: Mapping[str, Image]
    proprio: Array
