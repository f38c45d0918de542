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

BATCH: Final = 32
"""Pictures in one forward pass."""


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
        scores: (GRID, GRID) of picture cells or (words,) of the sentence, signed, in the target's
            unit: positive where the part raises the value.
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
def picture_values(
    policy: Explained, question: Question, target: Target, pictures: Image
) -> Scores:
    """Values (N,) of other pictures (N, H, W, 3) under the question's sentence."""
    before = intact(policy, question)
    found = []
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        rows = policy.prompt([question.instruction] * len(some))
        found.append(target.of(policy.predict(policy.encode(some), rows), before, policy.spec))
    return torch.cat(found).double().cpu().numpy()


@torch.no_grad()
def sentence_values(
    policy: Explained, question: Question, target: Target, sentences: Sequence[str]
) -> Scores:
    """Values (N,) of other sentences under the question's picture."""
    before = intact(policy, question)
    features = policy.encode(question.picture[None])
    repeated = features.map(lambda tokens: tokens.expand(len(sentences), -1, -1))
    prediction = policy.predict(repeated, policy.prompt(sentences))
    return np.asarray(target.of(prediction, before, policy.spec).double().cpu())
