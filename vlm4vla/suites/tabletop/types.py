"""What passes between a simulator and whoever drives it. Imports neither torch nor SAPIEN."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene

Event = Literal["reached", "grasped", "wrong_object", "dropped", "knocked", "timeout", "success"]

POLICY_PIXELS: Final = 128
"""Side of the policy camera's square picture."""

VIEW_PIXELS: Final = 384
"""Side of the picture that is made for people."""

Image = NDArray[np.uint8]
Array = NDArray[np.float32]


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
class Observation:
    """What a driver is given before it acts.

    Attributes:
        step: control steps since the episode began.
        state: the true state; a policy must not read it.
        image: (128, 128, 3) uint8 RGB from the policy camera; None if none was asked for.
        view: (384, 384, 3) uint8 RGB for people; None if none was asked for.
        segmentation: (128, 128) int16, -1 background and robot, else the index into
            `state.names`; None if none was asked for.
        events: what happened in this step, in the order of `Event`.
        success: whether the goal's condition holds now.
        rival: whether the condition of another goal that was to be watched holds now.
        done: the episode is over, by success or by timeout.
        physics_ms: time spent in physics for this step.
        render_ms: time spent on pictures for this step.
    """

    step: int
    state: State
    image: Image | None
    view: Image | None
    segmentation: NDArray[np.int16] | None
    events: tuple[Event, ...]
    success: bool
    rival: bool
    done: bool
    physics_ms: float
    render_ms: float


@dataclass(frozen=True)
class Pictures:
    """Which pictures a call should make; each costs several milliseconds."""

    image: bool = True
    view: bool = False
    segmentation: bool = False


class Simulator(Protocol):
    """One simulated robot and table, in this process or in another."""

    def reset(
        self,
        scene: Scene,
        goal: Goal,
        pictures: Pictures = Pictures(),
        start: tuple[float, float, float] | None = None,
        rival: Goal | None = None,
    ) -> Observation:
        """Starts an episode.

        Args:
            scene: what stands where.
            goal: one of `scene.goals()`.
            pictures: which pictures the observation should hold.
            start: where the centre between the finger tips starts, world frame, metres; None for
                a place above the table that the scene's seed decides.
            rival: another goal of the scene whose success is watched as well.
        """
        ...

    def step(self, action: Array, pictures: Pictures = Pictures()) -> Observation:
        """Carries out one action: (7,) in [-1, 1], see `docs/architecture.md`."""
        ...

    def set_goal(self, goal: Goal) -> None:
        """Switches the goal and starts its events afresh; nothing in the scene changes."""
        ...

    def close(self) -> None:
        """Frees the simulator; it cannot be used afterwards."""
        ...
