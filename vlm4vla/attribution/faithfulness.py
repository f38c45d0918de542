"""Is an attribution true? Deletion, insertion, infidelity, agreement, and where its mass lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
from vlm4vla.attribution.score import Explained, intact, predictions, values_of
from vlm4vla.attribution.target import Target
from vlm4vla.model.head import Prediction

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
    [found] = curves_of_several(policy, question, [(target, scores)], seeds, cover)
    return found


def curves_of_several(
    policy: Explained,
    question: Question,
    asked: Sequence[tuple[Target, Scores]],
    seeds: Sequence[int],
    cover: Cover = mean_colour,
    stride: int = STRIDE,
) -> list[Curves]:
    """The curves of several attributions, each of its target, against the same random orders.

    Args:
        policy: whom the attributions explain.
        question: picture and sentence.
        asked: targets and (GRID, GRID) scores.
        seeds: one a random order.
        cover: what is seen in the place of a cell.
        stride: cells between two points.
    """
    cells = GRID**2
    orders = [order_of(scores) for _, scores in asked]
    orders += [np.random.default_rng(seed).permutation(cells) for seed in seeds]
    deleted = np.stack([_first_of(order, stride) for order in orders])
    masks = np.stack([deleted, ~deleted]).reshape(-1, cells)
    # All curves share their ends, and equal maps all points: every picture is seen once.
    distinct, where = np.unique(masks, axis=0, return_inverse=True)
    found = predictions(policy, question, covered(question.picture, distinct, cover))
    before = intact(policy, question)
    lines = []
    for index, (target, _) in enumerate(asked):
        values = values_of(policy, target, found, before)[where.ravel()]
        deletion, insertion = values.reshape(2, len(orders), -1)
        random = slice(len(asked), None)
        lines.append(Curves(deletion[index], insertion[index], deletion[random], insertion[random]))
    return lines


@dataclass(frozen=True)
class Drops:
    """How far values drop when random cells are covered together.

    Attributes:
        masks: (N, cells), true where a cell is covered.
        predictions: N rows for the covered pictures.
        before: one row for the unchanged picture.
    """

    masks: Cells
    predictions: Prediction
    before: Prediction


def random_drops(
    policy: Explained,
    question: Question,
    seed: int,
    *,
    count: int = 32,
    at_once: int = 8,
    cover: Cover = mean_colour,
) -> Drops:
    """Covers `count` random sets of `at_once` cells, for `infidelity`."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, GRID**2), bool)
    for mask in masks:
        mask[rng.choice(GRID**2, at_once, replace=False)] = True
    found = predictions(policy, question, covered(question.picture, masks, cover))
    return Drops(masks, found, intact(policy, question))


def infidelity(policy: Explained, target: Target, scores: Scores, drops: Drops) -> float:
    """Infidelity (Yeh et al. 2019) of a map, as a share of what no map at all would have.

    The mean squared difference between the drop of the value when cells are covered together and
    the sum of their scores, times the one factor of at least 0 that suits the map best (so that
    units do not count), over the mean squared drop: 0 for a map that foretells every drop, 1 for
    one that foretells none. NaN if nothing drops.
    """
    [value] = values_of(policy, target, drops.before, drops.before)
    drop = value - values_of(policy, target, drops.predictions, drops.before)
    told = drops.masks @ scores.ravel()
    if not drop.any():
        return float("nan")
    factor = max(0.0, told @ drop / (told @ told)) if told.any() else 0.0
    return float(np.mean((factor * told - drop) ** 2) / np.mean(drop**2))


def _first_of(order: Order, stride: int) -> Cells:
    """(points, cells) the first 0, `stride`, 2 `stride`, ... cells of an order."""
    rank = np.argsort(order)
    return rank[None] < np.arange(0, len(order) + 1, stride)[:, None]


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
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(stats.spearmanr(one.ravel(), other.ravel()).statistic)
