"""Motion: what moved in an episode, told by its stored poses alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.observation import Array

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Footprint:
    """A thing on the table as it looks from above.

    Attributes:
        name: what it is called.
        round: a circle, else a rectangle.
        size: its extent along its own x and y, metres.
        colour: its colour, "#rrggbb".
    """

    name: str
    round: bool
    size: tuple[float, float]
    colour: str


@dataclass(frozen=True)
class Motion:
    """The motion of an episode, before its first step and after each one: T + 1 moments.

    Attributes:
        table: the part of the table that matters, ((x0, x1), (y0, y1)), world frame, metres.
        things: the movable objects, then the places that do not move.
        positions: (T + 1, m, 3) centres of the m movable objects, world frame, metres.
        yaws: (T + 1, m) their turn about the vertical, radians.
        tilts: (T + 1, m) how far their own axis leans from the vertical, degrees; 0 for a ball.
        fixed: (f, 2) centres of the places, metres.
        gripper: (T + 1, 3) centre between the finger tips, world frame, metres.
        opening: (T + 1,) distance between the fingers, metres.
        opens: (T + 1,) whether the step before this moment told the fingers to open.
        named: which movable object the goal is about.
        target: which thing it goes to; None where the goal has no target.
        lifts: whether the goal takes lifting.
        outside: (T + 1,) how far the named object's centre lies outside its target, seen from
            above; 0 within it, and everywhere where there is no target. Metres.
        above: (T + 1,) how far the named object is above where it would rest on its target, or on
            the table where there is none. Metres.
    """

    table: tuple[tuple[float, float], tuple[float, float]]
    things: tuple[Footprint, ...]
    positions: Array
    yaws: Array
    tilts: Array
    fixed: Array
    gripper: Array
    opening: Array
    opens: Flags
    named: int
    target: int | None
    lifts: bool
    outside: Array
    above: Array

    @property
    def distances(self) -> Array:
        """(T + 1, m) from the gripper's centre to the centre of each movable object, metres."""
        return np.linalg.norm(self.positions - self.gripper[:, None], axis=2).astype(np.float32)

    @property
    def moved(self) -> Array:
        """(T + 1, m) how far each movable object is from where it began, metres."""
        return np.linalg.norm(self.positions - self.positions[:1], axis=2).astype(np.float32)

    @property
    def raised(self) -> Array:
        """(T + 1, m) how far each movable object is above where it began, metres."""
        return self.positions[:, :, 2] - self.positions[:1, :, 2]

    def place(self, thing: int) -> tuple[float, float]:
        """Where a thing stood as the episode began: x and y, metres."""
        moving = self.positions.shape[1]
        x, y = self.positions[0, thing, :2] if thing < moving else self.fixed[thing - moving]
        return float(x), float(y)
