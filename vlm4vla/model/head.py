"""The paper's policy head and its loss (paper section "Policy head"; Huber + 0.01 BCE)."""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Prediction(NamedTuple):
    """`arm` (R, n, 6) in [-1, 1] and `gripper` (R, n) logits, positive for open."""

    arm: Tensor
    gripper: Tensor


def _branch(outputs: int) -> nn.Sequential:
    widths = (1024, 1024, 512, 256)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


class ActionHead(nn.Module):
    """Maps the query's last hidden state to a chunk of actions.

    The trunk D -> D/2 -> 1024 has no activation after it. Two branches 1024 -> 1024 -> 512 -> 256
    follow, one for the arm with a final tanh, one for the gripper's logits. Weights are
    Xavier-uniform, biases zero.

    Args:
        width: D, the hidden size of the language model.
        chunk: n, actions a prediction.
    """

    def __init__(self, width: int, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk
        self.trunk = nn.Sequential(
            nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1024)
        )
        self.arm = _branch(6 * chunk)
        self.gripper = _branch(chunk)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, state: Tensor) -> Prediction:
        """Hidden states (R, D) to a prediction."""
        shared = self.trunk(state)
        arm = torch.tanh(self.arm(shared)).unflatten(-1, (self.chunk, 6))
        return Prediction(arm, self.gripper(shared))


def action_loss(
    prediction: Prediction,
    arm: Tensor,
    gripper: Tensor,
    weight: Tensor,
    moves: Tensor,
    arm_weight: float = 1.0,
    gripper_weight: float = 0.01,
) -> Tensor:
    """Weighted mean of Huber (delta 1) on the arm plus binary cross entropy on the gripper.

    Args:
        prediction: what the head gave for R rows of n steps.
        arm: targets (R, n, 6) in [-1, 1].
        gripper: targets (R, n), 1 open and 0 closed.
        weight: (R, n), at least 0; 0 leaves a step out, as for the padding of a chunk.
        moves: (6,) bool; a dimension that never moves does not count.
        arm_weight: factor of the Huber term.
        gripper_weight: factor of the gripper term; 0.01 in the paper's code.
    """
    huber = F.huber_loss(prediction.arm.float(), arm, reduction="none", delta=1.0)
    huber = huber[..., moves].mean(-1)
    bce = F.binary_cross_entropy_with_logits(prediction.gripper.float(), gripper, reduction="none")
    step = arm_weight * huber + gripper_weight * bce
    return (step * weight).sum() / weight.sum().clamp(min=1e-6)
