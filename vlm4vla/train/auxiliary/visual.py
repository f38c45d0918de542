"""What image tokens alone learn on robot frames: the words of patches, and the hand's position.

A throw-away head reads the hand; the words are the VLM's own embeddings.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.hand_position import HandHead
from vlm4vla.train.auxiliary.patch_words import PatchWordLoss, PatchWords
from vlm4vla.train.batches.frames import Frames


@dataclass(frozen=True)
class VisualTargets:
    """What B frames show: arrays, later tensors.

    Attributes:
        patches: the words of every patch.
        tips: float32 (B, 3) centres between the finger tips, metres.
    """

    patches: PatchWords
    tips: Any


class VisualLoss(nn.Module):
    """The loss of image tokens.

    Args:
        policy: whose vision tower learns.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens, or nothing in it belongs
            to a place of the picture.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.words = PatchWordLoss(policy.vlm)
        self.hand = HandHead(policy.vlm.image_tokens, policy.vlm.width).to(policy.device)

    def forward(self, tokens: Tensor, targets: VisualTargets) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of tokens (B, T, D) that were encoded inside `watching`, and metrics."""
        words, metrics = self.words(tokens, targets.patches)
        found = self.hand(tokens)
        with torch.no_grad():
            apart = (found - targets.tips).norm(dim=-1) * 1000
        return words + self.hand.loss(found, targets.tips), metrics | {"hand_mm": apart.median()}

    def targets(self, frames: Frames, numbers: NDArray[np.int64]) -> VisualTargets:
        """What the given frames show."""
        tips = np.ascontiguousarray(frames.cache.state[numbers, :3])
        return VisualTargets(frames.views(numbers, self.words.side), tips)


def watching(loss: VisualLoss | None) -> AbstractContextManager[None]:
    """Around the encoding whose tokens `visual_loss` takes."""
    return loss.words.watching() if loss else nullcontext()


def visual_loss(
    loss: VisualLoss | None, tokens: Tensor, targets: VisualTargets | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its metrics; nothing where it is left out."""
    if not loss or not targets:
        return tokens.new_zeros((), dtype=torch.float32), {}
    return loss(tokens, targets)
