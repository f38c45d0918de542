"""Where things fall in the policy camera's picture, from their positions alone.

The camera stands still, so a projection gives what each patch of a robot frame shows without the
simulator and without stored segmentations.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vlm4vla.suites.tabletop.projection import POLICY_LENS
from vlm4vla.suites.tabletop.scene import (
    CONTAINER_RADIUS,
    ZONE_HALF_SIZE,
    FixtureSpec,
    ObjectSpec,
    Scene,
)
from vlm4vla.suites.tabletop.types import POLICY_PIXELS
from vlm4vla.suites.tabletop.vocabulary import ROBOT
from vlm4vla.train.synthetic.drawings import Item

DISTANCE: Final = float(np.linalg.norm(np.subtract(POLICY_LENS.eye, POLICY_LENS.target)))
"""From the camera to the middle of its picture, metres."""

FOCAL: Final = POLICY_PIXELS / 2 / np.tan(POLICY_LENS.fov / 2)
"""Pixels that a metre is wide at a metre's distance."""

_HIDDEN: Final = 0.35
"""A thing of which less than this share of the expected pixels shows is left out."""

_HAND: Final = tuple(
    np.array([(x, y, z) for x in (-0.02, 0.02) for y in (-width, width) for z in heights])
    for width, heights in ((0.05, (-0.01, 0.05)), (0.10, (0.05, 0.13)))
)
"""Corners of boxes around the fingers and the hand, from the finger tips on, metres."""

_CIRCLE: Final = np.linspace(0, 2 * np.pi, 16, endpoint=False)


def project(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """World points (..., 3) in metres to pixels (..., 2): across and down from the top left."""
    return POLICY_PIXELS * POLICY_LENS.project(points)


def below(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """The points of the table straight below points (..., 3), in metres."""
    return np.asarray(points, np.float64) * (1.0, 1.0, 0.0)


def label_view(
    scene: Scene,
    positions: NDArray[np.floating],
    pixels: NDArray[np.integer],
    tips: NDArray[np.floating],
) -> tuple[NDArray[np.int8], list[Item]]:
    """An approximate segmentation of a frame, and the things in it.

    Args:
        scene: what there is.
        positions: (k or more, 3) centres now, metres, objects before places.
        pixels: (k or more,) how many pixels of the picture show each thing.
        tips: (3,) centre between the finger tips, metres.

    Returns:
        (128, 128) int8 index into the items, -1 for none; the items in the scene's order, and last
        the robot's hand, whose place is the point of the table below it: the camera sees height
        and distance as one, and this tells them apart. Where the robot hides most of a thing, its
        pixels count as the hand's or as nothing's.
    """
    things: list[ObjectSpec | FixtureSpec] = [*scene.objects, *scene.fixtures]
    centres = project(positions[: len(things)])
    canvas = Image.new("L", (POLICY_PIXELS, POLICY_PIXELS), 255)
    pen = ImageDraw.Draw(canvas)
    for box in _HAND:
        corners = project(np.asarray(tips, np.float64) + box)
        left, top = corners.min(0)
        right, bottom = corners.max(0)
        pen.rectangle((left, top, right, bottom), fill=len(things))
    # Places lie under objects; of two objects the one nearer to the camera hides the other.
    order = sorted(range(len(things)), key=lambda i: (i < len(scene.objects), positions[i, 0]))
    for i in order:
        outline = _outline(scene, i, positions[i])
        area = _area(outline)
        if pixels[i] >= _HIDDEN * area:
            pen.polygon([(float(x), float(y)) for x, y in outline], fill=i)
    segmentation = np.array(canvas).astype(np.int8)
    names = (*(thing.name for thing in things), ROBOT)
    centres = np.concatenate([centres, project(below(tips))[None]])
    items = [Item(name, float(x), float(y)) for name, (x, y) in zip(names, centres, strict=True)]
    return segmentation, items


def _outline(scene: Scene, index: int, centre: NDArray[np.floating]) -> NDArray[np.float64]:
    """Corners of a thing's silhouette in pixels: a disc facing the camera, or flat on the table."""
    if index < len(scene.objects):
        radius = FOCAL / DISTANCE * scene.objects[index].size * 0.55
        middle = project(centre)
        return middle + radius * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=-1)
    if scene.fixtures[index - len(scene.objects)].kind == "zone":
        half = np.array([*ZONE_HALF_SIZE, 0.0])
        signs = np.array([[-1, -1, 0], [-1, 1, 0], [1, 1, 0], [1, -1, 0]])
        return project(centre + signs * half)
    ring = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE), np.zeros(len(_CIRCLE))], axis=-1)
    return project(centre + CONTAINER_RADIUS * ring)


def _area(outline: NDArray[np.float64]) -> float:
    x, y = outline.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
