"""Policies whose attributions can be worked out on paper, small VLMs, and planted policies."""

import numpy as np
import torch

from vlm4vla import action
from vlm4vla.attribution.inputs import Question
from vlm4vla.language.normal import normalise
from vlm4vla.model.features import Features
from vlm4vla.model.head import Prediction
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import make_tiny


class Toy:
    """Sees the mean red of every cell, 0 to 1.

    `rule` makes the first action's x (R,) from these (R, 64); x = 1 commands 0.6 times 0.1 m, which
    is 60 mm. The gripper's logit counts words: 3 for "red", 1 for "cube".
    """

    spec = action.tiny()

    def __init__(self, rule):
        self.rule = rule

    def encode(self, images):
        red = torch.as_tensor(images[..., 0].copy()).double() / 255
        return Features(red.reshape(len(red), 8, 16, 8, 16).mean((2, 4)).reshape(-1, 64, 1), (), 0)

    def prompt(self, instructions):
        heard = [normalise(sentence).split() for sentence in instructions]
        return [3.0 * ("red" in words) + ("cube" in words) for words in heard]

    def predict(self, features, rows):
        arm = torch.zeros(len(rows), 4, 6, dtype=torch.float64)
        arm[:, 0, 0] = self.rule(features.tokens[..., 0])
        gripper = torch.tensor(rows, dtype=torch.float64)[:, None].expand(-1, 4)
        return Prediction(arm, gripper)


SIZES = {
    "qwen3-vl": {"vision_layers": 3, "vision_width": 48, "language_layers": 2, "language_width": 48}
    | {"heads": 2},
    "internvl": {},
    "paligemma": {},
    "kosmos-2": {},
}
"""Every shipped family, small."""


def small(family, kind=Policy, seed=0):
    """A policy of random weights, whose action depends on its picture."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = kind(make_tiny(CORPUS, family, **SIZES[family]), action.tiny(), "embedding")
    return made.eval()


class CornerPolicy(Policy):
    """Planted: sees nothing but the marker in the upper left cell of its picture."""

    def encode_pixels(self, pixels):
        side = pixels.shape[-1] // 8
        seen = torch.zeros_like(pixels)
        seen[..., :side, :side] = pixels[..., :side, :side]
        return super().encode_pixels(seen)


def noise(seed=0):
    """A question about a picture of noise."""
    picture = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    return Question(picture, "pick up the red cube")
