"""Perturbations of pictures: pure functions of the picture, the seed, the step and the numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from vlm4vla.core.condition import Perturbation
from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """What a perturbation of a picture may know besides it; the policy never does.

    Attributes:
        other: (H, W, 3) another scene's picture, if one is wanted.
        covers: gives (H, W) where something is seen ("object", "target", "gripper", "robot") and
            where the background is, if that is wanted.
    """

    other: Image | None = None
    covers: Callable[[str], tuple[Mask, Mask]] | None = None


def perturbed_picture(
    picture: Image, change: Perturbation, seed: int, step: int, truth: Truth = Truth()
) -> Image:
    """A picture under one perturbation, as a new array of the same shape.

    Args:
        picture: (H, W, 3) uint8 RGB.
        change: one of the perturbations of pictures.
        seed: the scene's.
        step: the control step of the inference.
        truth: what only some of them need.

    Raises:
        UserError: the picture does not fit, or what it needs is not there.
    """
    return _CHANGES[change.name](picture, change.values, seed, step, truth)


_Values = Mapping[str, Any]


def _blank(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    return np.full_like(picture, values["level"])


def _noise(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    drawn = np.random.default_rng([seed, step, 19]).normal(0, values["sigma"], picture.shape)
    return np.clip(np.rint(picture + drawn), 0, 255).astype(np.uint8)


def _blur(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    blurred = Pillow.fromarray(picture).filter(ImageFilter.GaussianBlur(values["sigma"]))
    return np.array(blurred)


def _patches(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    side = values["side"]
    height, width, channels = picture.shape
    if height % side or width % side:
        raise UserError(
            f"A picture of {height} x {width} pixels has no whole patches of {side}.",
            "Choose a side that divides both.",
        )
    rows, columns = height // side, width // side
    grid = picture.reshape(rows, side, columns, side, channels).transpose(0, 2, 1, 3, 4)
    patches = grid.reshape(rows * columns, side, side, channels)
    # Without the step: an order that changed all the time would be noise.
    order = np.random.default_rng([seed, 23]).permutation(len(patches))
    shuffled = patches[order].reshape(rows, columns, side, side, channels)
    return np.ascontiguousarray(shuffled.transpose(0, 2, 1, 3, 4).reshape(picture.shape))


def _other(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    if truth.other is None or truth.other.shape != picture.shape:
        raise UserError("There is no picture of another scene to be shown.")
    return truth.other.copy()


def _without(picture: Image, values: _Values, seed: int, step: int, truth: Truth) -> Image:
    if truth.covers is None:
        raise UserError("Nothing can be painted out without the simulator's segmentation.")
    hidden, background = truth.covers(values["what"])
    painted = picture.copy()
    shown = picture[background]
    painted[hidden] = np.median(shown, axis=0).round() if len(shown) else 128
    return painted


_CHANGES: Final[Mapping[str, Callable[[Image, _Values, int, int, Truth], Image]]] = {
    "picture-blank": _blank,
    "picture-noise": _noise,
    "picture-blur": _blur,
    "picture-patches": _patches,
    "picture-other": _other,
    "picture-without": _without,
}

PICTURES: Final = tuple(_CHANGES)
"""Names of the perturbations of pictures."""
