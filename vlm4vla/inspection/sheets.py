"""Contact sheets: a whole episode as one picture, from which a person can tell how it went."""

import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import Episode
from vlm4vla.core.observation import Image
from vlm4vla.inspection.states import states_of
from vlm4vla.suites.tabletop.projection import VIEW_LENS
from vlm4vla.suites.tabletop.suite import VIEW_CAMERA

FRAMES: Final = 16
COLUMNS: Final = 4
CELL: Final = 264
"""Side of a frame in pixels."""

_GAP: Final = 6
_HEAD: Final = 84
_MARGIN: Final = 0.1
_LEAST: Final = 0.45
"""Shares of the camera's picture: left free around all that moves, and the smallest part shown."""

_INK, _PAPER = (20, 20, 20), (255, 255, 255)


class Frame(NamedTuple):
    """A frame of a sheet.

    Attributes:
        step: when it was taken.
        picture: (n, n, 3) uint8 RGB.
        path: (k, 2) where the finger tips were since the frame before, shares of the picture.
    """

    step: int
    picture: Image
    path: NDArray[np.float64]


def contact_sheet(episode: Episode, environment: Environment, title: str) -> bytes:
    """A PNG of an episode: what was asked for, and frames at even distances with their steps.

    It tells neither who acted nor what came of it. A line shows the way of the finger tips since
    the frame before, since what goes back and forth can look still in single frames.

    Args:
        episode: of the tabletop suite, with a pose for every step.
        environment: of its suite.
        title: stands before the sentence.

    Raises:
        UserError: the episode has no pose for every step, or the environment cannot draw.
    """
    part = part_shown(episode)
    hand = VIEW_LENS.project(np.stack([one.tcp for one in states_of(episode)]))
    frames, before = [], 0
    for step in moments(episode.steps):
        pose = Pose(episode.trace.joints[step], episode.trace.poses[step])
        drawn = environment.draw(episode.spec, pose, (VIEW_CAMERA,)).images[VIEW_CAMERA]
        frames.append(Frame(step, drawn, hand[before : step + 1]))
        before = step
    goal = episode.spec.goal
    things = [f"{name}: {goal[name]}" for name in ("object", "target") if goal.get(name)]
    return compose(frames, part, f'{title}   "{episode.spec.instruction}"', "; ".join(things))


def moments(steps: int) -> list[int]:
    """The steps of the frames: the first and the last of an episode, and what lies between."""
    return sorted({round(float(one)) for one in np.linspace(0, steps, FRAMES)})


def part_shown(episode: Episode) -> tuple[float, float, float]:
    """The square of the camera's picture in which everything happens: left, top, side, as shares.

    Raises:
        UserError: see `contact_sheet`.
    """
    states = states_of(episode)
    points = np.concatenate([np.vstack([one.positions, one.tcp]) for one in states])
    seen = VIEW_LENS.project(points).clip(0, 1)
    low, high = seen.min(0) - _MARGIN, seen.max(0) + _MARGIN
    side = min(1.0, max(_LEAST, float((high - low).max())))
    left, top = (min(max(0.0, float(one) - side / 2), 1 - side) for one in (low + high) / 2)
    return left, top, side


def compose(
    frames: Sequence[Frame],
    part: tuple[float, float, float],
    first: str,
    second: str,
) -> bytes:
    """Puts frames onto a sheet.

    Args:
        frames: in their order.
        part: which square of each is shown, see `part_shown`.
        first: the upper line.
        second: the lower line.

    Returns:
        A PNG.
    """
    rows = -(-len(frames) // COLUMNS)
    pitch = CELL + _GAP
    sheet = Pillow.new("RGB", (COLUMNS * pitch + _GAP, _HEAD + rows * pitch), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for text, down, size in ((first, 12, 24), (second, 48, 20)):
        pen.text((_GAP, down), text, _INK, _fitting(text, size, sheet.width - 2 * _GAP))
    left, top, side = part
    for index, (step, picture, path) in enumerate(frames):
        pixels = len(picture)
        box = (left * pixels, top * pixels, (left + side) * pixels, (top + side) * pixels)
        frame = Pillow.fromarray(picture).resize((CELL, CELL), Pillow.Resampling.LANCZOS, box=box)
        x, y = _GAP + index % COLUMNS * pitch, _HEAD + index // COLUMNS * pitch
        _trail(frame, (path - (left, top)) / side * CELL)
        sheet.paste(frame, (x, y))
        pen.rectangle((x, y, x + 84, y + 24), _PAPER)
        pen.text((x + 5, y + 2), f"step {step}", _INK, ImageFont.load_default(18))
    target = io.BytesIO()
    sheet.save(target, "png")
    return target.getvalue()


def _trail(frame: Pillow.Image, path: NDArray[np.float64]) -> None:
    """Draws a path, (k, 2) pixels, and a ring at its end."""
    pen = ImageDraw.Draw(frame)
    points = [(float(x), float(y)) for x, y in path]
    for colour, width in ((_INK, 4), (_PAPER, 2)):
        if len(points) > 1:
            pen.line(points, colour, width, "curve")
        pen.circle(points[-1], 3 + width / 2, outline=colour, width=width // 2)


def _fitting(text: str, size: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    font = ImageFont.load_default(size)
    while size > 12 and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size)
    return font
