"""What the vision tower alone learns on robot frames: the words of patches, and the hand's place.

A throw-away head reads the hand; the words are the VLM's own embeddings.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.hand_position import HandHead
from vlm4vla.train.auxiliary.patch_words import Aligner, PatchTargets, targets_of
from vlm4vla.train.batches.frames import Frames


@dataclass(frozen=True)
class VisualTargets:
    """What B frames show.

    Attributes:
        patches: the words of every patch.
        tips: (B, 3) centres between the finger tips, metres.
    """

    patches: PatchTargets
    tips: Tensor


class VisualLoss(nn.Module):
    """The loss of image tokens.

    Args:
        policy: whose vision tower learns.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.align = Aligner(policy.vlm)
        self.hand = HandHead(policy.vlm.image_tokens, policy.vlm.width).to(policy.device)
        self.side = round(policy.vlm.image_tokens**0.5)
        self.device = policy.device

    def forward(self, tokens: Tensor, targets: VisualTargets) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of tokens (B, T, D), and figures to show."""
        words, metrics = self.align(tokens, targets.patches)
        found = self.hand(tokens)
        with torch.no_grad():
            apart = (found - targets.tips).norm(dim=-1) * 1000
        return words + self.hand.loss(found, targets.tips), metrics | {"hand_mm": apart.median()}

    def targets(self, frames: Frames, numbers: NDArray[np.int64]) -> VisualTargets:
        """What the given frames show."""
        return VisualTargets(
            targets_of(frames.views(numbers, self.side), self.device),
            torch.from_numpy(frames.cache.state[numbers, :3]).to(self.device),
        )


def see(
    lesson: VisualLoss | None, tokens: Tensor, targets: VisualTargets | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The lesson's loss and figures; nothing where it is left out."""
    if not lesson or not targets:
        return tokens.new_zeros((), dtype=torch.float32), {}
    return lesson(tokens, targets)
