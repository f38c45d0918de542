"""What the suite's simulator tells. Imports neither torch nor SAPIEN."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.environment import Pose
from vlm4vla.core.observation import Array, Image

Event = Literal["reached", "grasped", "wrong_object", "dropped", "knocked", "timeout", "success"]

POLICY_PIXELS: Final = 128
"""Side of the policy camera's square picture."""

VIEW_PIXELS: Final = 384
"""Side of the picture that is made for people."""

BACKGROUND: Final = -1
ROBOT: Final = -2
FINGERS: Final = -3
"""What a segmentation holds where there is no named thing: table and floor, the arm with its hand,
and the two fingers."""


@dataclass(frozen=True)
class State:
    """The simulator's true state, for experts, labels and measures; never for a policy.

    Attributes:
        tcp: (3,) centre between the finger tips, world frame, metres.
        velocity: (3,) velocity of that point, metres a second.
        opening: distance between the fingers, 0 to 0.08 m.
        names: the movable objects, then the fixtures, in the scene's order.
        positions: (k, 3) their centres, world frame, metres; a fixture's is on its surface.
        sizes: (k,) width of objects, diameter of containers, depth (y) of zones, metres.
        movable: how many of the k can move.
    """

    tcp: Array
    velocity: Array
    opening: float
    names: tuple[str, ...]
    positions: Array
    sizes: Array
    movable: int

    def position(self, name: str) -> Array:
        """(3,) centre of the thing called `name`, metres.

        Raises:
            KeyError: nothing in the scene has that name.
        """
        return self.positions[self._index(name)]

    def size(self, name: str) -> float:
        """Width of the thing called `name`, metres."""
        return float(self.sizes[self._index(name)])

    def _index(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"no {name!r} in {self.names}") from None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot: everything that the simulator tells after a control step, truth included.

    Attributes:
        step: control steps since the episode began.
        state: the true state.
        pose: joints and objects, enough to draw this moment again.
        image: (128, 128, 3) uint8 RGB from the policy camera; None if none was asked for.
        view: (384, 384, 3) uint8 RGB for people; None if none was asked for.
        segmentation: (128, 128) int16, `BACKGROUND`, `ROBOT`, `FINGERS`, else the index into
            `state.names`; None if none was asked for.
        events: what happened in this step, in the order of `Event`; where nothing is judged, see
            `vlm4vla.suites.tabletop.tasks.Witness`.
        success: whether the goal's condition holds now.
        watched: whether the condition of another goal that was to be watched holds now.
        done: the episode is over, by success or by timeout.
        physics_ms: time spent in physics for this step.
        render_ms: time spent on pictures for this step.
    """

    step: int
    state: State
    pose: Pose
    image: Image | None
    view: Image | None
    segmentation: NDArray[np.int16] | None
    events: tuple[str, ...]
    success: bool
    watched: bool
    done: bool
    physics_ms: float
    render_ms: float


@dataclass(frozen=True)
class Pictures:
    """Which pictures a call should make; each costs several milliseconds."""

    image: bool = True
    view: bool = False
    segmentation: bool = False
