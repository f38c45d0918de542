"""An attribution drawn over its picture: flat cells, nothing smoothed."""

from typing import Final

import numpy as np

from vlm4vla.attribution.inputs import Scores, cell_of_pixels
from vlm4vla.core.observation import Image

_RAISES: Final = (255, 120, 0)
_LOWERS: Final = (0, 110, 255)
_STRONGEST: Final = 0.75
"""Opacity of a score as large as the scale; the picture can still be seen."""


def overlay(picture: Image, scores: Scores, scale: float, zoom: int = 4) -> Image:
    """The picture, enlarged, under cells that are orange where they raise the value, else blue.

    Args:
        picture: (H, W, 3).
        scores: (GRID, GRID).
        scale: the score that is drawn strongest; above 0.
        zoom: how many times larger.
    """
    large = picture.repeat(zoom, 0).repeat(zoom, 1)
    pixel_scores = scores.ravel()[cell_of_pixels(*large.shape[:2])][..., None]
    opacity = _STRONGEST * np.clip(np.abs(pixel_scores) / scale, 0, 1)
    colour = np.where(pixel_scores > 0, _RAISES, _LOWERS)
    return ((1 - opacity) * large + opacity * colour).round().astype(np.uint8)
