"""Layers that train faster at our sizes (figures in `docs/training.md`)."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vlm4vla.errors import UserError
from vlm4vla.model.groups import inside
from vlm4vla.model.policy import Policy
from vlm4vla.train.speed.packed import compiling, packed_layers, why_not_packed

_WHOLE: Final = "whole_flash"
"""Vision towers hand over all pictures at once only to implementations named like this."""

_VARIANTS: Final = 256
"""More than a model has layers, times the shapes that cannot share a compiled form."""


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
    if query.device.type != "cpu":
        q, k, v = (p[0].unflatten(1, (pictures, -1)).transpose(0, 1) for p in (query, key, value))
        fused = F.scaled_dot_product_attention(q, k, v, scale=scaling)
        return fused.transpose(1, 2).reshape(1, -1, heads, width), None
    q, k, v = (part[0].reshape(heads * pictures, -1, width) for part in (query, key, value))
    scores = torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scaling)
    found = torch.bmm(scores.softmax(-1).to(v.dtype), v)
    return found.view(heads, -1, width).transpose(0, 1).unsqueeze(0), None


class _AsProduct(nn.Module):
    """A convolution whose input is one kernel wide, as the matrix product that it is.

    Args:
        convolution: whose weights are used; they stay its own.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.__dict__["convolution"] = convolution
        self.weight = convolution.weight
        self.bias = convolution.bias

    def forward(self, patches: Tensor) -> Tensor:
        """(N, channels, time, height, width) to (N, D)."""
        return F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)


@contextmanager
def fast_layers(policy: Policy) -> Iterator[None]:
    """The same numbers from layers that suit the device.

    Towers that keep all pictures in one long sequence attend in all of them at once, and patches
    are a matrix product. On a CPU attention is plain products, too: fused attention and
    convolutions have slow backward passes there. Every picture of a batch must take the same
    number of tokens, as they do in this package.
    """
    base = policy.base
    configs = [m.config for m in base.modules() if isinstance(m, PreTrainedModel)]
    before = [config._attn_implementation for config in configs]
    if policy.device.type == "cpu":
        base.set_attn_implementation("eager")
    towers = [m for n, m in base.named_modules() if n in policy.vlm.family.vision]
    packed = [m for m in towers if "grid_thw" in signature(m.forward).parameters]
    # The name is ours alone, so registering it again changes nothing.
    AttentionInterface.register(_WHOLE, _attend_whole)
    for tower in packed:
        tower.config._attn_implementation = _WHOLE
    embeds = [m.patch_embed for m in packed if isinstance(_projection(m), nn.Conv3d)]
    for embed in embeds:
        embed.proj = _AsProduct(embed.proj)
    try:
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
        for embed in embeds:
            embed.proj = embed.proj.convolution


def require_compiler() -> None:
    """Makes sure that layers can be compiled.

    Raises:
        UserError: there is no C++ compiler.
    """
    if not (os.environ.get("CXX") or shutil.which("g++")):
        raise UserError(
            "Compiling the model's layers needs a C++ compiler, and there is none.",
            "Install g++, or train without --compile, which learns the same more slowly.",
        )


@contextmanager
def chosen_layers(policy: Policy, compiled: bool) -> Iterator[None]:
    """The layers that a policy trains with while it lasts; prints which they are, and why.

    Of layers that are not packed the language model's alone are compiled (figures in
    `docs/results.md`): the vision tower's have little between their products, and were slower
    with two threads.

    Args:
        policy: whose layers.
        compiled: whether they are to be compiled.
    """
    reason = why_not_packed(policy)
    if reason is None:
        how = ", compiled" if compiled else ""
        print(f"layers: packed rows{how}, as this is Qwen3-VL on a CPU")
        with packed_layers(policy, compiled):
            yield
        return
    print(f"layers: the model's own, as {reason}")
    if not compiled:
        yield
        return
    layers = [
        module
        for name, module in policy.base.named_modules()
        if isinstance(module, GradientCheckpointingLayer)
        and not inside(name, policy.vlm.family.vision)
    ]
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        # Layers share their code, and each counts as a recompilation of it.
        with compiling(_VARIANTS):
            yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def _projection(tower: nn.Module) -> Any:
    return getattr(getattr(tower, "patch_embed", None), "proj", None)
