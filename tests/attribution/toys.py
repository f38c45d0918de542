"""Policies whose attributions can be worked out on paper."""

import torch

from vlm4vla import action
from vlm4vla.language.normal import normalise
from vlm4vla.model.features import Features
from vlm4vla.model.head import Prediction


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
