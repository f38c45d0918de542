"""Which maps deserve trust: every method at an inference, and the measures of each map's worth."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from vlm4vla.attribution.faithfulness import (
    curves_of_several,
    infidelity,
    mass_shares,
    points_at,
    random_drops,
    rank_agreement,
)
from vlm4vla.attribution.inferences import Inference
from vlm4vla.attribution.inputs import GRID, Cover, Question, Scores, blurred, grey, mean_colour
from vlm4vla.attribution.methods import METHODS
from vlm4vla.attribution.occlusion import occlusions
from vlm4vla.attribution.randomised import CASCADE, randomised
from vlm4vla.attribution.score import Attribution, Explained
from vlm4vla.attribution.target import Target
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy

RANDOM_ORDERS: Final = 3
STRIDE: Final = 8
"""Cells between two points of a curve."""

_COVERS: Final[dict[str, Cover]] = {
    "occlusion": mean_colour,
    "occlusion-grey": grey,
    "occlusion-blur": blurred,
}
_SAME_FOR_EVERY_TARGET: Final = ("rollout", "attention")

Maps = dict[str, dict[str, Scores]]
"""Target to method to (GRID, GRID) scores."""


def all_maps(
    policy: Explained, question: Question, targets: Sequence[Target]
) -> tuple[Maps, dict[str, str]]:
    """The maps of every method for every target, and why a method gave none.

    Methods whose work does not depend on the target do it once.
    """
    maps: Maps = {target.name: {} for target in targets}
    refused = {}
    for name in METHODS:
        try:
            found = _several(policy, question, targets, name)
        except UserError as error:
            refused[name] = error.problem
            continue
        for target, one in zip(targets, found, strict=True):
            maps[target.name][name] = one.scores
    return maps, refused


def _several(
    policy: Explained, question: Question, targets: Sequence[Target], name: str
) -> list[Attribution]:
    if name in _COVERS:
        return occlusions(policy, question, targets, cover=_COVERS[name])
    if name in _SAME_FOR_EVERY_TARGET:
        return [METHODS[name](policy, question, targets[0])] * len(targets)
    return [METHODS[name](policy, question, target) for target in targets]


def examine(
    policy: Explained, inference: Inference, targets: Sequence[Target], seed: int
) -> tuple[dict[str, Any], Maps]:
    """The measures of every method's map at one inference, plain values, and the maps.

    Args:
        policy: whom the maps explain.
        inference: with its true regions.
        targets: what is explained.
        seed: of the random orders and the randomly covered cells.
    """
    question = inference.question
    maps, refused = all_maps(policy, question, targets)
    asked = [(target, scores) for target in targets for scores in maps[target.name].values()]
    names = [(target.name, method) for target in targets for method in maps[target.name]]
    orders = range(seed * RANDOM_ORDERS, (seed + 1) * RANDOM_ORDERS)
    lines = curves_of_several(policy, question, asked, orders, stride=STRIDE)
    drops = random_drops(policy, question, seed)
    told: dict[str, dict[str, Any]] = {target.name: {} for target in targets}
    for (target, scores), (name, method), line in zip(asked, names, lines, strict=True):
        told[name][method] = {
            "deletion": line.deletion_gain,
            "insertion": line.insertion_gain,
            "infidelity": infidelity(policy, target, scores, drops),
            "mass": mass_shares(scores, inference.regions),
            "points_at": {
                part: points_at(scores, region) for part, region in inference.regions.items()
            },
        }
    # What the pointing game gives by chance: the share of cells that meet a region.
    meets = {
        part: float(np.mean([points_at(cell, region) for cell in np.eye(GRID**2)]))
        for part, region in inference.regions.items()
    }
    pixels = {part: float(region.mean()) for part, region in inference.regions.items()}
    agreement = {name: _agreement(found) for name, found in maps.items()}
    return {
        "targets": told,
        "pixels": pixels,
        "cells": meets,
        "agreement": agreement,
        "refused": refused,
    }, maps


def _agreement(maps: Mapping[str, Scores]) -> dict[str, dict[str, float]]:
    """Rank correlation of the sizes of scores, of every two methods."""
    sizes = {name: np.abs(scores) for name, scores in maps.items()}
    return {
        one: {other: rank_agreement(sizes[one], sizes[other]) for other in sizes if other != one}
        for one in sizes
    }


def collapse(
    policy: Policy,
    question: Question,
    targets: Sequence[Target],
    maps: Maps,
    seed: int,
    levels: Sequence[str] = CASCADE,
) -> dict[str, dict[str, dict[str, float]]]:
    """How much the maps of randomised policies still agree with the true ones.

    Rank correlation of the sizes of scores, by target, method and level; 0 where the map of the
    randomised policy has the same score everywhere, so that nothing is left of the true one.

    Args:
        policy: its weights are back afterwards; nobody else may use it meanwhile.
        question: picture and sentence.
        targets: what is explained.
        maps: of the true policy.
        seed: of the randomisation.
        levels: of `vlm4vla.attribution.randomised.CASCADE`.
    """
    found: dict[str, dict[str, dict[str, float]]] = {
        target: {method: {} for method in there} for target, there in maps.items()
    }
    for level in levels:
        with randomised(policy, level, seed):
            others, _ = all_maps(policy, question, targets)
        for target, there in maps.items():
            for method, scores in there.items():
                other = np.abs(others[target][method])
                same = np.ptp(other) == 0
                left = 0.0 if same else rank_agreement(np.abs(scores), other)
                found[target][method][level] = left
    return found
