"""Where things fall in the suite's pictures, from their positions alone; needs no simulator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.suites.tabletop.scene import (
    BOWL_RIM,
    CONTAINER_RADIUS,
    PLATE_RIM,
    ZONE_HALF_SIZE,
    FixtureSpec,
    ObjectSpec,
    Scene,
)

POLICY_PITCH: Final = 50.0
"""Degrees that the policy's camera looks below the horizon."""


@dataclass(frozen=True)
class Lens:
    """A pinhole camera that stands still.

    Attributes:
        eye: (3,) where it is, world frame, metres.
        target: (3,) what is in the middle of its picture.
        fov: opening angle from top to bottom, radians.
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fov: float

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (..., 3) in metres to shares of the square picture (..., 2), from top left.

        0 is the left or upper edge and 1 the right or lower one.
        """
        forward = self._forward()
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        seen = np.asarray(points, np.float64) - np.array(self.eye)
        shares = np.stack([seen @ right, seen @ down], axis=-1) / (seen @ forward)[..., None]
        return 0.5 + shares / (2 * np.tan(self.fov / 2))

    def depth(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Depth (...) of world points (..., 3): how far they are along the view, metres."""
        return (np.asarray(points, np.float64) - np.array(self.eye)) @ self._forward()

    def _forward(self) -> NDArray[np.float64]:
        """(3,) where it looks, one long."""
        forward = np.array(self.target) - np.array(self.eye)
        forward /= np.linalg.norm(forward)
        return forward


def _policy_lens() -> Lens:
    target, distance, pitch = (-0.10, 0.0, 0.026), 2.0, np.radians(POLICY_PITCH)
    x = target[0] + distance * float(np.cos(pitch))
    z = target[2] + distance * float(np.sin(pitch))
    return Lens((x, 0.0, z), target, 0.20)


POLICY_LENS: Final = _policy_lens()
"""The one third-person camera that a policy sees: opposite the robot, 50 degrees down. At 128
pixels an object of 4 cm is 12 to 16 pixels wide."""

VIEW_LENS: Final = Lens((0.60, 0.42, 0.66), (-0.18, -0.01, 0.07), 0.66)
"""The larger picture for people, with the whole arm in it."""


def outlines(scene: Scene, lens: Lens) -> Mapping[str, tuple[float, float, float, float]]:
    """The box around each thing as the scene starts: left, top, width, height, as shares."""
    found = {}
    things: list[ObjectSpec | FixtureSpec] = [*scene.objects, *scene.fixtures]
    for thing in things:
        seen = lens.project(_corners(thing))
        (left, top), (right, bottom) = seen.min(0), seen.max(0)
        found[thing.name] = (float(left), float(top), float(right - left), float(bottom - top))
    return found


def _corners(thing: ObjectSpec | FixtureSpec) -> NDArray[np.float64]:
    """(8, 3) corners of a box around a thing, metres."""
    if isinstance(thing, ObjectSpec):
        half, height = (thing.size / 2, thing.size / 2), thing.size
    elif thing.kind == "zone":
        half, height = ZONE_HALF_SIZE, 0.0
    else:
        half = (CONTAINER_RADIUS, CONTAINER_RADIUS)
        height = PLATE_RIM if thing.kind == "plate" else BOWL_RIM
    return np.array(
        [
            (thing.x + x * half[0], thing.y + y * half[1], z * height)
            for x in (-1, 1)
            for y in (-1, 1)
            for z in (0, 1)
        ]
    )
