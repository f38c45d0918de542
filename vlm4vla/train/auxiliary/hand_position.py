"""Where the robot's hand is, read from image tokens alone.

The policy's camera stands 2 m away behind a narrow angle: a hand that is higher and one that is
nearer look almost alike. This head makes the vision tower tell them apart before any language.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CENTRE: Final = (-0.05, 0.0, 0.08)
_SPREAD: Final = (0.08, 0.09, 0.05)
"""Metres; about the mean and the deviation of the finger tips over the expert's frames."""


class HandHead(nn.Module):
    """Image tokens (B, T, D) to the centre between the finger tips (B, 3), in metres.

    Four learned queries look over the tokens. Thrown away after the stage.

    Args:
        tokens: T.
        width: D.
    """

    _LOOKS: Final = 4

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.places = nn.Parameter(0.1 * torch.randn(tokens, width))
        self.looks = nn.Parameter(0.1 * torch.randn(self._LOOKS, width))
        self.keys, self.values = nn.Linear(width, width), nn.Linear(width, width)
        seen = self._LOOKS * width
        self.layers = nn.Sequential(
            nn.LayerNorm(seen), nn.Linear(seen, 2 * width), nn.GELU(), nn.Linear(2 * width, 3)
        )
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.tensor(_CENTRE), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Metres."""
        seen = F.layer_norm(tokens.float(), tokens.shape[-1:]) + self.places
        share = (self.looks @ self.keys(seen).mT / seen.shape[-1] ** 0.5).softmax(-1)
        return self.layers((share @ self.values(seen)).flatten(1)).float() * self.spread + (
            self.centre
        )

    def loss(self, found: Tensor, tips: Tensor) -> Tensor:
        """Huber loss of two places (B, 3) in metres."""
        return F.smooth_l1_loss(found / self.spread, tips / self.spread, beta=0.1)
