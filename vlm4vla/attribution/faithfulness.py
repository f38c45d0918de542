"""Is an attribution true? Deletion and insertion against random orders, and where its mass lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.attribution.inputs import (
    GRID,
    Cells,
    Cover,
    Question,
    Scores,
    cell_of_pixels,
    covered,
    mean_colour,
)
from vlm4vla.attribution.score import Explained, picture_values
from vlm4vla.attribution.target import Target

STRIDE: Final = 4
"""Cells between two points of a curve."""

Order = NDArray[np.intp]


@dataclass(frozen=True)
class Curves:
    """Deletion and insertion curves (Petsiuk et al. 2018) of a map and of random orders.

    Attributes:
        deletion: (points,) values while cells are covered, the highest score first.
        insertion: (points,) values while a wholly covered picture is uncovered in that order.
        random_deletion: (orders, points) the same for random orders.
        random_insertion: (orders, points).
    """

    deletion: Scores
    insertion: Scores
    random_deletion: Scores
    random_insertion: Scores

    @property
    def deletion_gain(self) -> float:
        """How far the map's area lies below the mean of random orders; above 0 is better."""
        return float(np.mean(area(self.random_deletion)) - area(self.deletion))

    @property
    def insertion_gain(self) -> float:
        """How far the map's area lies above the mean of random orders; above 0 is better."""
        return float(area(self.insertion) - np.mean(area(self.random_insertion)))


def area(curve: Scores) -> Any:
    """Mean height of curves (..., points) over the share of cells, by the trapezoid rule."""
    return ((curve[..., :-1] + curve[..., 1:]) / 2).mean(-1)


def order_of(scores: Scores) -> Order:
    """Cells from the highest score to the lowest; equal ones from the upper left."""
    return np.argsort(-scores.ravel(), kind="stable")


def curves(
    policy: Explained,
    question: Question,
    target: Target,
    scores: Scores,
    seeds: Sequence[int],
    cover: Cover = mean_colour,
) -> Curves:
    """Deletion and insertion by an attribution of picture cells, and by random orders.

    Args:
        policy: whom the attribution explains.
        question: picture and sentence.
        target: the value that is watched.
        scores: (GRID, GRID).
        seeds: one a random order.
        cover: what is seen in the place of a cell.
    """
    cells = GRID**2
    orders = [order_of(scores)] + [np.random.default_rng(seed).permutation(cells) for seed in seeds]
    deleted = np.stack([_first_of(order) for order in orders])
    masks = np.stack([deleted, ~deleted]).reshape(-1, cells)
    # All curves share their ends: every picture is seen once.
    distinct, where = np.unique(masks, axis=0, return_inverse=True)
    pictures = covered(question.picture, distinct, cover)
    values = picture_values(policy, question, target, pictures)[where.ravel()]
    deletion, insertion = values.reshape(2, len(orders), -1)
    return Curves(deletion[0], insertion[0], deletion[1:], insertion[1:])


def _first_of(order: Order) -> Cells:
    """(points, cells) the first 0, `STRIDE`, 2 `STRIDE`, ... cells of an order."""
    rank = np.argsort(order)
    return rank[None] < np.arange(0, len(order) + 1, STRIDE)[:, None]


def mass_shares(scores: Scores, regions: Mapping[str, Cells]) -> dict[str, float]:
    """The share of all absolute score that lies on each region; 0 if there is no score at all.

    A cell's score is spread evenly over its pixels.

    Args:
        scores: (GRID, GRID).
        regions: (H, W) masks by name.
    """
    size = np.abs(scores).ravel()
    total = size.sum() or 1.0
    shares = {}
    for name, region in regions.items():
        cell = cell_of_pixels(*region.shape).ravel()
        inside = np.bincount(cell, region.ravel(), GRID**2) / np.bincount(cell, minlength=GRID**2)
        shares[name] = float(size @ inside / total)
    return shares


def points_at(scores: Scores, region: Cells) -> bool:
    """The pointing game (Zhang et al. 2018): whether the cell of the highest score meets a region.

    Args:
        scores: (GRID, GRID).
        region: (H, W) mask.
    """
    return bool(region[cell_of_pixels(*region.shape) == order_of(scores)[0]].any())


def rank_agreement(one: Scores, other: Scores) -> float:
    """Spearman's rank correlation of two maps; equal scores share their mean rank.

    NaN if a map has the same score everywhere.
    """
    first, second = (_centred_ranks(scores.ravel()) for scores in (one, other))
    spread = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / spread) if spread else float("nan")


def _centred_ranks(values: Scores) -> Scores:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return mean_rank[where] - (len(values) + 1) / 2
