"""What perturbations change in the suite's world: looks, and further objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from vlm4vla.core.condition import Perturbation, Value
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.projection import Lens
from vlm4vla.suites.tabletop.scene import SIZES, WORKSPACE, ObjectSpec, Scene
from vlm4vla.suites.tabletop.vocabulary import COLOURS, SHAPES, colour_of

START: Final = "start"
"""The perturbation that lets the finger tips start at x, y, z (metres, world frame)."""

GONE: Final = "gone"
"""The perturbation that takes the movable thing of a name off the table, from a step on."""

LIGHT: Final = "light"
CAMERA: Final = "camera"
TABLE: Final = "table-colour"
SHADE: Final = "shade"
PALE: Final = "pale"
SIZE: Final = "size"
DISTRACTORS: Final = "distractors"

CHANGES: Final = (START, LIGHT, CAMERA, TABLE, SHADE, PALE, SIZE, DISTRACTORS, GONE)
"""Perturbations that the suite's simulator carries out; all but `GONE` hold for a whole episode."""

AWAY: Final = (5.0, 5.0, -10.0)
"""Where a thing is that is gone, world frame, metres: below the floor, where no camera looks."""

_DRAWS: Final = 500
_BETWEEN_ZONES: Final = 0.05
"""Half width of the strip between two zones that no object on it reaches out of (metres)."""


@dataclass(frozen=True)
class Looks:
    """How the world looks to the policy.

    Attributes:
        light: factor on every lamp.
        camera: degrees that the policy's camera is turned about a vertical axis through the middle
            of its picture.
        table: the table's colour, red, green and blue from 0 to 1; None as built.
        shade: factor on every object's colour.
        pale: share of white in every object's colour.
    """

    light: float = 1.0
    camera: float = 0.0
    table: tuple[float, float, float] | None = None
    shade: float = 1.0
    pale: float = 0.0

    def paint(self, colour: tuple[float, float, float]) -> tuple[float, float, float]:
        """An object's colour as it is painted, linear RGB from 0 to 1."""
        red, green, blue = (
            min(1.0, self.shade * ((1 - self.pale) * share + self.pale)) for share in colour
        )
        return red, green, blue


USUAL: Final = Looks()


def check(changes: Sequence[Perturbation]) -> None:
    """Refuses what this simulator cannot do; perturbations of other places pass.

    Raises:
        UserError: a change of the world begins or ends in the middle of an episode, or something
            that is gone comes back.
    """
    for change in changes:
        if change.name == GONE:
            if change.last_step is not None:
                raise UserError("What is gone does not come back.", "Leave its last step out.")
        elif change.name in CHANGES and (change.first_step or change.last_step is not None):
            raise UserError(
                f"The change {change.name!r} of the tabletop's world holds for a whole episode.",
                "Leave its first and last step out.",
            )


def gone_at(changes: Sequence[Perturbation], step: int) -> frozenset[str]:
    """Names of the things that are off the table at a control step."""
    return frozenset(
        str(change.values["name"])
        for change in changes
        if change.name == GONE and change.holds(step)
    )


def looks_of(changes: Sequence[Perturbation]) -> Looks:
    """The looks that some perturbations make."""
    looks = USUAL
    for change in changes:
        values = change.values
        if change.name == LIGHT:
            looks = replace(looks, light=float(values["factor"]))
        elif change.name == CAMERA:
            looks = replace(looks, camera=float(values["degrees"]))
        elif change.name == TABLE:
            looks = replace(looks, table=_colour(values))
        elif change.name == SHADE:
            looks = replace(looks, shade=float(values["factor"]))
        elif change.name == PALE:
            looks = replace(looks, pale=float(values["share"]))
    return looks


def changed_scene(scene: Scene, changes: Sequence[Perturbation]) -> Scene:
    """The scene with the sizes and the distractors that some perturbations give it."""
    for change in changes:
        if change.name == SIZE:
            factor = float(change.values["factor"])
            sized = tuple(replace(item, size=factor * item.size) for item in scene.objects)
            scene = replace(scene, objects=sized)
    for change in changes:
        if change.name == DISTRACTORS:
            for index in range(int(change.values["count"])):
                scene = _with_distractor(scene, index)
    return scene


def turned(lens: Lens, degrees: float) -> Lens:
    """The lens turned about a vertical axis through what is in the middle of its picture."""
    angle = np.radians(degrees)
    x, y = lens.eye[0] - lens.target[0], lens.eye[1] - lens.target[1]
    eye_x = lens.target[0] + x * np.cos(angle) - y * np.sin(angle)
    eye_y = lens.target[1] + x * np.sin(angle) + y * np.cos(angle)
    return replace(lens, eye=(float(eye_x), float(eye_y), lens.eye[2]))


def _colour(values: Mapping[str, Value]) -> tuple[float, float, float]:
    return (float(values["red"]), float(values["green"]), float(values["blue"]))


def _with_distractor(scene: Scene, index: int) -> Scene:
    """One more object, where most room is; its name, shape and size stand for nothing else."""
    rng = np.random.default_rng([scene.seed, index, 37])
    names = {item.name for item in scene.objects}
    painted = {colour_of(place.name) for place in scene.fixtures}
    bodies = {(item.shape, item.size) for item in scene.objects}
    free = [
        (f"{colour} {shape}", size)
        for colour, shape, size in product(COLOURS, SHAPES, SIZES)
        if f"{colour} {shape}" not in names
        and colour not in painted
        and (shape, size) not in bodies
    ]
    name, size = free[int(rng.integers(len(free)))]
    (x0, x1), (y0, y1) = WORKSPACE
    solid = [place for place in scene.fixtures if place.kind != "zone"]
    if len(solid) < len(scene.fixtures):
        y0, y1 = -_BETWEEN_ZONES, _BETWEEN_ZONES
    spots = rng.uniform((x0, y0), (x1, y1), size=(_DRAWS, 2))
    taken = np.array([(o.x, o.y) for o in scene.objects] + [(f.x, f.y) for f in solid])
    room = np.linalg.norm(spots[:, None] - taken[None], axis=-1).min(axis=1)
    x, y = spots[int(room.argmax())]
    added = ObjectSpec(name, float(size), float(x), float(y), 0.0)
    return replace(scene, objects=(*scene.objects, added))
