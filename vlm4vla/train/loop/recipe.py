"""How long and how fast a stage learns."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a stage learns.

    Attributes:
        steps: optimiser steps.
        batch: pictures a batch, over all processes.
        learning_rate: after warm-up.
        warmup: steps over which it rises linearly from 0.
        schedule: "constant", "cosine" down to `final_rate` of the learning rate, or "late", which
            is that cosine over the last fifth and constant before it, so that weights that are
            kept on the way differ in steps alone.
        final_rate: where the cosine ends, as a share.
        accumulation: batches a step.
        weight_decay: of AdamW; 0 in the paper.
        clip: largest norm of the gradient without the action query's, 0 for no clipping.
        ema: decay of the running average of the weights that the stage hands on; 0 for none.
        seed: of batches and of new weights.
        save_every: steps between saved states; slow steps are saved by the clock, too.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    schedule: Literal["constant", "cosine", "late"] = "cosine"
    final_rate: float = 0.05
    accumulation: int = 1
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.99
    seed: int = 0
    save_every: int = 200

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        begin = round(0.8 * self.steps) if self.schedule == "late" else self.warmup
        done = max(0, step - begin) / max(1, self.steps - begin)
        cosine = 0.5 * (1 + cos(done * pi))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)
