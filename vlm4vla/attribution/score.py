"""The explained number: pictures and sentences through a policy to the values of a target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch

from vlm4vla.action import ActionSpec
from vlm4vla.attribution.inputs import Question, Scores
from vlm4vla.attribution.target import Target
from vlm4vla.core.observation import Image
from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.head import Prediction
from vlm4vla.model.images import Images

BATCH: Final = 16
"""Most pictures in one forward pass: more leave the processor's cache."""


class Explained(Protocol):
    """What is asked of a policy to be explained; `vlm4vla.model.policy.Policy` has it."""

    spec: ActionSpec

    def encode(self, images: Images) -> Features:
        """Features of B pictures."""
        ...

    def prompt(self, instructions: Sequence[str]) -> Rows:
        """The prompts of R instructions."""
        ...

    def predict(self, features: Features, rows: Rows) -> Prediction:
        """Predictions from R features and R prompts; gradients flow into the features."""
        ...


@dataclass(frozen=True)
class Attribution:
    """An attribution: how much of a value each part of the input accounts for.

    Attributes:
        scores: (GRID, GRID) of picture cells, (words,) of the sentence or (things,) of the scene,
            signed: positive where the part raises the value. In the target's unit, except where
            the method says otherwise.
        value: of the unchanged picture and sentence.
        reference: of the baseline that all scores together explain the difference to; None for
            methods whose scores need not add up to anything.
    """

    scores: Scores
    value: float
    reference: float | None = None


Method = Callable[[Explained, Question, Target], Attribution]
"""What every attribution method is called like."""


@torch.no_grad()
def intact(policy: Explained, question: Question) -> Prediction:
    """The prediction of one row for the unchanged picture and sentence."""
    return policy.predict(
        policy.encode(question.picture[None]), policy.prompt([question.instruction])
    )


@torch.no_grad()
def predictions(policy: Explained, question: Question, pictures: Image) -> Prediction:
    """The predictions of N rows for other pictures (N, H, W, 3) under the question's sentence."""
    found = []
    # Batches of one size, as a small last one would take longer a picture.
    for some in np.array_split(pictures, -(-len(pictures) // BATCH)):
        rows = policy.prompt([question.instruction] * len(some))
        found.append(policy.predict(policy.encode(some), rows))
    return Prediction(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def values_of(policy: Explained, target: Target, found: Prediction, before: Prediction) -> Scores:
    """Values (N,) of N predictions; `before` is the one for the unchanged picture and sentence."""
    return np.asarray(target.of(found, before, policy.spec).double().cpu())


def picture_values(
    policy: Explained, question: Question, target: Target, pictures: Image
) -> Scores:
    """Values (N,) of other pictures (N, H, W, 3) under the question's sentence."""
    found = predictions(policy, question, pictures)
    return values_of(policy, target, found, intact(policy, question))


@torch.no_grad()
def sentence_values(
    policy: Explained, question: Question, target: Target, sentences: Sequence[str]
) -> Scores:
    """Values (N,) of other sentences under the question's picture."""
    before = intact(policy, question)
    features = policy.encode(question.picture[None])
    repeated = features.map(lambda tokens: tokens.expand(len(sentences), -1, -1))
    return values_of(policy, target, policy.predict(repeated, policy.prompt(sentences)), before)
