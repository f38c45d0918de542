"""The running average of the weights, which is what a stage is measured by and hands on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """Exponential moving average of the learning weights.

    Args:
        learning: names and weights.
        decay: share of the old average that a step keeps; 0 for the weights themselves.
    """

    def __init__(self, learning: list[tuple[str, nn.Parameter]], decay: float) -> None:
        self.learning = learning
        self.decay = decay
        self.values = [p.detach().clone() for _, p in learning] if decay else []
        self.updates = 0

    def update(self) -> None:
        """Takes in the weights after a step."""
        if self.values:
            self.updates += 1
            # Early on the average must forget the random start.
            decay = min(self.decay, self.updates / (self.updates + 10))
            torch._foreach_lerp_(self.values, [p.detach() for _, p in self.learning], 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swaps the averaged weights in for a while; without averages nothing is copied."""
        if not self.values:
            yield
            return
        kept = [p.detach().clone() for _, p in self.learning]
        self.take()
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, parameter), value in zip(self.learning, kept, strict=True):
                    parameter.copy_(value)

    def take(self) -> None:
        """Replaces the weights by their averages; without averages they stay."""
        if not self.values:
            return
        with torch.no_grad():
            for (_, parameter), value in zip(self.learning, self.values, strict=True):
                parameter.copy_(value)
