"""What a prediction is explained by: an 8 x 8 grid of picture cells, and the words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError
from vlm4vla.language.normal import normalise
from vlm4vla.language.vocabulary import COLOURS, FIXED, MOVABLE

GRID: Final = 8
"""Cells along each side of a picture, whatever its size and however many tokens a VLM makes."""

Scores = NDArray[np.float64]
Cells = NDArray[np.bool_]
Cover = Callable[[Image], Image]


@dataclass(frozen=True)
class Question:
    """What a policy was asked at one inference.

    Attributes:
        picture: (H, W, 3) uint8 RGB, at least `GRID` pixels a side.
        instruction: the sentence.
    """

    picture: Image
    instruction: str

    def __post_init__(self) -> None:
        shape = self.picture.shape
        if len(shape) != 3 or shape[-1] != 3 or min(shape[:2]) < GRID:
            raise UserError(f"A picture of {GRID} x {GRID} cells cannot have the shape {shape}.")


def cell_of_pixels(height: int, width: int) -> NDArray[np.intp]:
    """The cell (H, W) of every pixel, counted by rows from the upper left."""
    rows, columns = np.arange(height) * GRID // height, np.arange(width) * GRID // width
    return rows[:, None] * GRID + columns[None]


def mean_colour(picture: Image) -> Image:
    """The picture's mean colour everywhere."""
    mean = picture.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return np.broadcast_to(mean, picture.shape)


def grey(picture: Image) -> Image:
    """Middle grey everywhere, whatever the picture."""
    return np.broadcast_to(np.uint8(128), picture.shape)


def blurred(picture: Image) -> Image:
    """The picture under a Gaussian blur with the deviation of a cell's side."""
    radius = min(picture.shape[:2]) / GRID
    return np.asarray(Pillow.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


COVERS: Final[dict[str, Cover]] = {"mean": mean_colour, "grey": grey, "blur": blurred}


def covered(picture: Image, cells: Cells, cover: Cover = mean_colour) -> Image:
    """Pictures (N, H, W, 3) in which some cells show what `cover` makes of the picture.

    Args:
        picture: (H, W, 3).
        cells: (N, cells), true where a cell is covered.
        cover: what is seen there.
    """
    # As large as the pictures: a mask that numpy stretches over the colours takes 3 times longer.
    of_colours = np.repeat(cell_of_pixels(*picture.shape[:2])[..., None], 3, axis=-1)
    return np.where(cells[:, of_colours], cover(picture)[None], picture[None])


def to_grid(tokens: NDArray[Any]) -> Scores:
    """Scores of T vision tokens as scores (GRID, GRID) of cells; their sum stays.

    A token that lies in several cells is parted among them by area.

    Args:
        tokens: (T,) scores of tokens that tile the picture in rows.

    Raises:
        UserError: T is no square number.
    """
    side = round(len(tokens) ** 0.5)
    if side**2 != len(tokens):
        raise UserError(f"{len(tokens)} vision tokens are no square grid over the picture.")
    cell, token = np.arange(GRID)[:, None] / GRID, np.arange(side)[None] / side
    shared = np.minimum(cell + 1 / GRID, token + 1 / side) - np.maximum(cell, token)
    part = np.clip(shared, 0, None) * side
    return part @ np.asarray(tokens, dtype=np.float64).reshape(side, side) @ part.T


def words(instruction: str) -> list[str]:
    """The words that can be left out of a sentence, as a policy reads it."""
    return normalise(instruction).split()


def without_each_word(instruction: str) -> list[str]:
    """The sentence once without each of its words.

    Raises:
        UserError: the sentence has no word.
    """
    found = words(instruction)
    if not found:
        raise UserError("The sentence has no word that could be left out.")
    return [" ".join(found[:i] + found[i + 1 :]) for i in range(len(found))]


def alternatives(word: str) -> tuple[str, ...]:
    """Other words of the same sort: colours for a colour, movable or fixed kinds for such a kind.

    Empty for every other word.
    """
    for sort in (COLOURS, MOVABLE, FIXED):
        if word in sort:
            return tuple(other for other in sort if other != word)
    return ()
