"""Gradients at the vision tokens by captum: gradient times input, and integrated gradients.

Qwen3-VL reads its vision tokens at several places; all of them count as one token's.
"""

import dataclasses
from typing import Final

import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor

from vlm4vla.attribution.inputs import Question, Scores, mean_colour
from vlm4vla.attribution.internals import token_grid
from vlm4vla.attribution.score import BATCH, Attribution, Explained
from vlm4vla.attribution.target import Target, require_slope
from vlm4vla.model.features import Features
from vlm4vla.model.head import Prediction

NODES: Final = 64
"""Points of the Gauss-Legendre rule along the path of integrated gradients."""

_Levels = tuple[Tensor, ...]


def gradient_times_input(policy: Explained, question: Question, target: Target) -> Attribution:
    """Gradient times input (Shrikumar et al. 2016): slope times feature, summed over a token.

    Raises:
        UserError: the target has no slope at the unchanged picture, or the tokens no square grid.
    """
    require_slope(target)
    with torch.no_grad():
        features = policy.encode(question.picture[None])
    seen: list[Tensor] = []

    def value_of(*levels: Tensor) -> Tensor:
        prediction = _predict(policy, question, features, levels)
        before = Prediction(*(part.detach() for part in prediction))
        seen.append(target.of(prediction, before, policy.spec))
        return seen[-1]

    with torch.enable_grad():
        parts = InputXGradient(value_of).attribute(_leaves(features))
    return Attribution(_map(policy, parts), float(seen[0].detach()))


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
        before = _predict(policy, question, end, _levels(end))

    def value_of(*levels: Tensor) -> Tensor:
        return target.of(_predict(policy, question, end, levels), before, policy.spec)

    with torch.no_grad():
        value, reference = value_of(*_levels(end)), value_of(*_levels(start))
    with torch.enable_grad():
        parts = IntegratedGradients(value_of).attribute(
            _leaves(end),
            _levels(start),
            n_steps=nodes,
            method="gausslegendre",
            internal_batch_size=BATCH,
        )
    return Attribution(_map(policy, parts), float(value), float(reference))


def _levels(features: Features) -> _Levels:
    return (features.tokens, *features.deepstack)


def _leaves(features: Features) -> _Levels:
    return tuple(level.detach().requires_grad_() for level in _levels(features))


def _predict(policy: Explained, question: Question, like: Features, levels: _Levels) -> Prediction:
    """Predictions of R rows from levels (R, T, D) of features."""
    tokens, *deepstack = levels
    features = dataclasses.replace(like, tokens=tokens, deepstack=tuple(deepstack))
    return policy.predict(features, policy.prompt([question.instruction] * len(tokens)))


def _map(policy: Explained, parts: _Levels) -> Scores:
    whole = torch.stack([part.detach().sum(-1)[0].double() for part in parts])
    return token_grid(policy, whole.sum(0))
