"""How a small language model starts: attention that already compares and copies.

Weights drawn at a deviation of 0.02 hardly move anything in a model this narrow, and which object
a word means is then found late or never. Here every projection keeps the scale of its input,
queries equal keys, so that a token attends to what resembles it, and what a head reads comes out
as it went in (after Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828). Figures are in
`docs/training.md`.
"""

from typing import Any

import torch
from torch import nn

_COPIED = 0.5
"""Share of what a head reads that is added to the stream; deeper layers would drown it at 1."""


@torch.no_grad()
def start_language_model(model: Any, seed: int) -> None:
    """Draws the weights of a decoder's layers anew, in place.

    Args:
        model: the bare language model, with Llama's names: `layers` of `self_attn` (`q_proj`,
            `k_proj`, `v_proj`, `o_proj`, as many key heads as query heads) and `mlp`.
        seed: of the weights.
    """
    draw = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
            nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5, draw)
        mlp.down_proj.weight.mul_(0.5)
        nn.init.orthogonal_(attention.q_proj.weight, generator=draw)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        nn.init.orthogonal_(attention.v_proj.weight, generator=draw)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T * _COPIED)
