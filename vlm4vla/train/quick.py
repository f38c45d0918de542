"""Attention that trains faster on a CPU at our lengths (figures in `docs/training.md`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from vlm4vla.model.policy import Policy

_WHOLE: Final = "whole_flash"
"""Vision towers hand over all pictures at once only to implementations named like this."""


def _attend_whole(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    cu_seq_lens_q: Tensor,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each of B pictures of equal length, as one product instead of B.

    Args:
        module: the attention layer.
        query: (1, H, B * T, d), as are key and value.
        key: see query.
        value: see query.
        attention_mask: unused, as pictures attend to all of themselves.
        scaling: of the scores.
        cu_seq_lens_q: (B + 1,) where pictures begin.
    """
    pictures = len(cu_seq_lens_q) - 1
    heads, width = query.shape[1], query.shape[3]
    q, k, v = (part[0].reshape(heads * pictures, -1, width) for part in (query, key, value))
    scores = torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scaling)
    found = torch.bmm(scores.softmax(-1).to(v.dtype), v)
    return found.view(heads, -1, width).transpose(0, 1).unsqueeze(0), None


AttentionInterface.register(_WHOLE, _attend_whole)


@contextmanager
def quick_attention(policy: Policy) -> Iterator[None]:
    """Plain matrix products instead of fused attention, while the policy is on a CPU.

    Every picture of a batch must take the same number of tokens, as they do in this package.
    """
    if policy.device.type != "cpu":
        yield
        return
    base = policy.base
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    # Qwen's towers keep all pictures in one long sequence and would else attend one by one.
    towers = [m for n, m in base.named_modules() if n in policy.vlm.family.vision]
    packed = [m for m in towers if "grid_thw" in signature(m.forward).parameters]
    for tower in packed:
        tower.config._attn_implementation = _WHOLE
    try:
        yield
    finally:
        base.set_attn_implementation(before)
