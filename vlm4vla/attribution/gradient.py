"""Gradients at the vision tokens: gradient times input, and integrated gradients.

Qwen3-VL reads its vision tokens at several places; all of them count as one token's.
"""

import dataclasses
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vlm4vla.attribution.inputs import Question, mean_colour, to_grid
from vlm4vla.attribution.score import BATCH, Attribution, Explained, intact
from vlm4vla.attribution.target import AGREEMENT, Target
from vlm4vla.errors import UserError
from vlm4vla.model.features import Features

NODES: Final = 64
"""Points of the Gauss-Legendre rule along the path of integrated gradients."""


def gradient_times_input(policy: Explained, question: Question, target: Target) -> Attribution:
    """Gradient times input (Shrikumar et al. 2016): slope times feature, summed over a token.

    Raises:
        UserError: the target has no slope at the unchanged picture, or the tokens no square grid.
    """
    if target == AGREEMENT:
        raise UserError(
            f"The target {target.name!r} has no slope at the unchanged picture.",
            "Choose another target, or integrated gradients.",
        )
    with torch.no_grad():
        features = policy.encode(question.picture[None])
    values, slopes = _slopes(policy, question, target, features)
    tokens = sum(
        (slope * level).sum(-1)[0] for slope, level in zip(slopes, _levels(features), strict=True)
    )
    return Attribution(_grid(tokens), float(values[0]))


def integrated_gradients(
    policy: Explained,
    question: Question,
    target: Target,
    *,
    nodes: int = NODES,
) -> Attribution:
    """Integrated gradients (Sundararajan et al. 2017) from the features of a plain picture.

    The baseline is what the policy sees of a picture that has the mean colour everywhere. The
    scores add up to `value - reference`, as exactly as the integral along the path is taken.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: the value.
        nodes: points at which slopes are taken.

    Raises:
        UserError: the tokens are no square grid.
    """
    with torch.no_grad():
        end = policy.encode(question.picture[None])
        start = policy.encode(mean_colour(question.picture)[None])
    places, weights = np.polynomial.legendre.leggauss(nodes)
    total = torch.zeros(end.tokens.shape[1], dtype=torch.float64, device=end.tokens.device)
    for first in range(0, nodes, BATCH):
        alpha = end.tokens.new_tensor((places[first : first + BATCH] + 1) / 2)[:, None, None]
        weight = end.tokens.new_tensor(weights[first : first + BATCH] / 2)[:, None, None]
        between = _between(start, end, alpha)
        _, slopes = _slopes(policy, question, target, between)
        for slope, a, b in zip(slopes, _levels(start), _levels(end), strict=True):
            total += (weight * slope * (b - a)).sum((0, -1)).double()
    value, _ = _slopes(policy, question, target, end)
    reference, _ = _slopes(policy, question, target, start)
    return Attribution(_grid(total), float(value[0]), float(reference[0]))


def _levels(features: Features) -> tuple[Tensor, ...]:
    return (features.tokens, *features.deepstack)


def _between(start: Features, end: Features, alpha: Tensor) -> Features:
    """Features at the shares `alpha` (R, 1, 1) of the straight way from one picture to another."""
    tokens, *deepstack = (
        a + alpha * (b - a) for a, b in zip(_levels(start), _levels(end), strict=True)
    )
    return dataclasses.replace(end, tokens=tokens, deepstack=tuple(deepstack))


def _slopes(
    policy: Explained, question: Question, target: Target, features: Features
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Values (R,) at R features, and their slopes at every level; parameters keep their own."""
    before = intact(policy, question)
    leaves = features.map(lambda tokens: tokens.detach().requires_grad_())
    rows = policy.prompt([question.instruction] * len(features.tokens))
    with torch.enable_grad():
        values = target.of(policy.predict(leaves, rows), before, policy.spec)
        slopes = torch.autograd.grad(values.sum(), _levels(leaves))
    return values.detach(), slopes


def _grid(tokens: Tensor | int) -> np.ndarray:
    return to_grid(np.asarray(torch.as_tensor(tokens).double().cpu()))
