"""Reference resolution: which of the things on the table a reference means, or why none.

World frame: x points away from the robot's base, y to the robot's left, metres. People speak of
the table as they see it, and they see it from the side opposite the robot: in the policy's picture
their left is -y, and behind is towards the robot. The larger picture for people is turned by about
29 degrees against it. A place counts as certain only if it is so in both pictures and by a clear
margin; what is true in one of them is left open.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import hypot, inf
from typing import Final, Literal

import numpy as np

from vlm4vla.language.meanings import Noun, Reference

MARGIN: Final = 0.015
"""Two places must differ by so much, in metres, before one is certainly farther along."""

SIDE_MARGIN: Final = 0.02
"""So far from the middle of the picture, a thing is certainly on one side of it (metres)."""

_HEIGHT: Final = 0.022
"""Of the centre of a movable thing above the table, metres."""


@dataclass(frozen=True)
class Thing:
    """A thing on the table.

    Attributes:
        name: what the scene calls it, unique in a scene.
        colour: canonical.
        kind: canonical.
        x: of its centre, away from the robot's base (m).
        y: of its centre, to the robot's left (m).
        movable: whether it can be moved; places cannot.
    """

    name: str
    colour: str
    kind: str
    x: float
    y: float
    movable: bool

    def is_a(self, noun: Noun) -> bool:
        """Whether it looks as a noun says."""
        return noun.colour in (None, self.colour) and noun.kind in (None, self.kind)


@dataclass(frozen=True)
class View:
    """A camera that people see the table through.

    Attributes:
        eye: where it is, world frame (m).
        target: what it looks at (m).
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, 3): right, up and forward of the camera as rows, world frame."""
        forward = np.subtract(self.target, self.eye)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), forward])

    def place(self, thing: Thing) -> tuple[float, float]:
        """(right, away): where a thing is from the middle of the picture, in metres at the target.

        "Away" follows the picture's upward axis back onto the table.
        """
        return _place(self, thing.x, thing.y)


# Drawing one sentence asks for the same few places hundreds of times.
@lru_cache(maxsize=1024)
def _place(view: View, x: float, y: float) -> tuple[float, float]:
    axes = view.axes
    right, up, depth = axes @ np.subtract((x, y, _HEIGHT), view.eye)
    distance = float(np.linalg.norm(np.subtract(view.target, view.eye)))
    steep = -float(axes[2][2])
    return float(right / depth * distance), float(up / depth * distance / steep)


VIEWS: Final = (
    View((1.1856, 0.0, 1.5581), (-0.10, 0.0, 0.026)),
    View((0.60, 0.42, 0.66), (-0.18, -0.01, 0.07)),
)
"""The policy's camera and the one for people, as the tabletop suite sets them up."""


@dataclass(frozen=True)
class Resolved:
    """A reference that means one thing."""

    thing: Thing


@dataclass(frozen=True)
class Ambiguous:
    """A reference that may mean any of several.

    Attributes:
        what: the reference, or the part of it that is not clear.
        candidates: what it may mean.
    """

    what: str
    candidates: tuple[Thing, ...]


@dataclass(frozen=True)
class Absent:
    """A reference that nothing here answers to.

    Attributes:
        what: the reference, or the part of it that is not there.
    """

    what: str


Resolution = Resolved | Ambiguous | Absent
Truth = Literal["yes", "no", "maybe"]


def resolve(reference: Reference, things: Sequence[Thing]) -> Resolution:
    """Finds the thing that a reference means.

    Args:
        reference: what was said.
        things: everything that it may mean, and that its relations may name.
    """
    return resolve_among(reference, things, things)


def resolve_target(
    reference: Reference, things: Sequence[Thing], moved: Thing | None
) -> Resolution:
    """Finds where a thing goes: "the cube" is not the cube that is moved.

    A place among things is still taken among all of them: whether the moved one counts for "the
    leftmost cube" is not certain.
    """
    others = [thing for thing in things if thing != moved]
    return resolve_among(reference, others if reference.relation is None else things, things)


def resolve_among(
    reference: Reference, among: Iterable[Thing], things: Sequence[Thing]
) -> Resolution:
    """As `resolve`, where only some things may be meant, but relations may name all of them."""
    anchors: list[Thing] = []
    if reference.relation != "other than":
        for noun in reference.anchors:
            found = _only(f"the {noun}", [thing for thing in things if thing.is_a(noun)])
            if not isinstance(found, Resolved):
                return found
            anchors.append(found.thing)
    fitting = [t for t in among if t.is_a(reference.noun) and t not in anchors]
    truths = _truths(reference, fitting, anchors)
    certain = [t for t, truth in zip(fitting, truths, strict=True) if truth == "yes"]
    possible = [t for t, truth in zip(fitting, truths, strict=True) if truth == "maybe"]
    if possible:
        return Ambiguous(str(reference), (*certain, *possible))
    return _only(str(reference), certain)


def _only(what: str, found: list[Thing]) -> Resolution:
    if len(found) == 1:
        return Resolved(found[0])
    return Ambiguous(what, tuple(found)) if found else Absent(what)


def _truths(reference: Reference, fitting: list[Thing], anchors: list[Thing]) -> list[Truth]:
    """For each thing that looks right: whether it stands where the relation says."""
    match reference.relation:
        case None:
            return ["yes"] * len(fitting)
        case "other than":
            return ["no" if t.is_a(reference.anchors[0]) else "yes" for t in fitting]
        case "leftmost":
            return _outermost(fitting, -1)
        case "rightmost":
            return _outermost(fitting, 1)
        case "on the left":
            return [_all(_side(-view.place(t)[0]) for view in VIEWS) for t in fitting]
        case "on the right":
            return [_all(_side(view.place(t)[0]) for view in VIEWS) for t in fitting]
        case "nearest to":
            return _least(fitting, lambda thing: _distance(thing, anchors[0]))
        case "farthest from":
            return _least(fitting, lambda thing: -_distance(thing, anchors[0]))
        case "between":
            return [_between(thing, *anchors) for thing in fitting]
        case "left of":
            return [_beside(thing, anchors[0], 0, -1) for thing in fitting]
        case "right of":
            return [_beside(thing, anchors[0], 0, 1) for thing in fitting]
        case "behind":
            return [_beside(thing, anchors[0], 1, 1) for thing in fitting]
        case "in front of":
            return [_beside(thing, anchors[0], 1, -1) for thing in fitting]


def _outermost(things: list[Thing], sign: int) -> list[Truth]:
    """Which thing lies farthest to the right, or to the left for a sign of -1.

    A single one must not lie on the other side: then it is not the one that was meant.
    """

    def along(view: View) -> Callable[[Thing], float]:
        return lambda thing: -sign * view.place(thing)[0]

    if len(things) == 1:
        sides = [_side(-along(view)(things[0])) for view in VIEWS]
        return ["maybe" if "no" in sides else "yes"]
    return _least(things, *(along(view) for view in VIEWS))


def _least(things: list[Thing], *measures: Callable[[Thing], float]) -> list[Truth]:
    """Which thing has the least of each measure: "yes" if by the margin in all of them."""
    each: list[list[Truth]] = [[] for _ in things]
    for measure in measures:
        values = [measure(thing) for thing in things]
        for index, value in enumerate(values):
            others = [other for i, other in enumerate(values) if i != index]
            lead = min(others) - value if others else inf
            each[index].append("yes" if lead >= MARGIN else "no" if lead <= -MARGIN else "maybe")
    return [_all(truths) for truths in each]


def _all(truths: Iterable[Truth]) -> Truth:
    """What holds in every view."""
    found = set(truths)
    return found.pop() if len(found) == 1 else "maybe"


def _side(value: float) -> Truth:
    return "yes" if value >= SIDE_MARGIN else "no" if value <= -SIDE_MARGIN else "maybe"


def _distance(thing: Thing, other: Thing) -> float:
    return hypot(thing.x - other.x, thing.y - other.y)


def _beside(thing: Thing, anchor: Thing, axis: int, sign: int) -> Truth:
    """Whether a thing stands along an axis of the picture from another, within 45 degrees."""
    truths: list[Truth] = []
    for view in VIEWS:
        here, there = view.place(thing), view.place(anchor)
        offset = here[0] - there[0], here[1] - there[1]
        along, across = sign * offset[axis], abs(offset[1 - axis])
        if along >= 2 * MARGIN and across <= along:
            truths.append("yes")
        else:
            truths.append("no" if along <= 0 else "maybe")
    return _all(truths)


def _between(thing: Thing, first: Thing, second: Thing) -> Truth:
    """Whether a thing stands near the line between two others, and away from its ends."""
    line = second.x - first.x, second.y - first.y
    length = hypot(*line)
    offset = thing.x - first.x, thing.y - first.y
    along = (offset[0] * line[0] + offset[1] * line[1]) / length
    across = abs(offset[0] * line[1] - offset[1] * line[0]) / length
    if MARGIN <= along <= length - MARGIN and across <= min(0.04, length / 3):
        return "yes"
    return "no" if along <= 0 or along >= length or across >= 0.09 else "maybe"
