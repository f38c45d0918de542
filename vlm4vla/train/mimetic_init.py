"""How a small language model starts: attention that already compares and copies.

Weights drawn at a deviation of 0.02 hardly move anything in a model this narrow, and which object
a word means is then found late or never. Here every projection keeps the scale of its input,
queries equal keys, so that a token attends to what resembles it, and what a head reads comes out
as it went in (after Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828). Figures are in
`docs/training.md`.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from vlm4vla.errors import UserError
from vlm4vla.model.vlm import Vlm

_WORD_STD: Final = 0.5
_WORD_STD_OF: Final[Mapping[str, float]] = {"kosmos-2": 0.16}
"""Kosmos-2 multiplies words and image tokens once more, and adds positions that would else be as
large."""

_COPIED = 0.5
"""Share of what a head reads that is added to the stream; deeper layers would drown it at 1."""


def word_std(family: str) -> float:
    """Deviation of new words as the embedding hands them on.

    Words must lie apart from the first step on, or patches find no word to go to.
    """
    return _WORD_STD_OF.get(family, _WORD_STD)


def word_sharpness(family: str, sharpness: float) -> float:
    """A factor of scores against words, given for words of the usual deviation."""
    return sharpness * _WORD_STD / word_std(family)


@torch.no_grad()
def start_words(vlm: Vlm, seed: int) -> None:
    """Draws the word embeddings anew, in place, with the deviation `word_std`.

    Args:
        vlm: a small VLM.
        seed: of the weights.
    """
    embedding = vlm.base.get_input_embeddings()
    draw = torch.Generator().manual_seed(seed)
    nn.init.normal_(embedding.weight, 0.0, word_std(vlm.family.name), draw)
    # Some embeddings, Gemma's among them, scale words on the way out.
    some = torch.ones(1, dtype=torch.long)
    embedding.weight.mul_(embedding.weight[some].norm() / embedding(some).norm())


@torch.no_grad()
def start_language_model(base: Any, seed: int) -> None:
    """Draws the weights of every decoder layer anew, in place.

    Layers with Llama's names (`self_attn` of `q_proj`, `k_proj`, `v_proj`, `o_proj`, as many key
    heads as query heads, and `mlp`) and with BART's (`out_proj`, and `ffn` of `fc1` and `fc2`) get
    this start; others keep their class's own. Of a resampler, queries and keys stay apart: a latent
    must look at patches, not at itself.

    Args:
        base: a small VLM's transformers model.
        seed: of the weights.

    Raises:
        UserError: a layer has fewer key heads than query heads.
    """
    draw = torch.Generator().manual_seed(seed)
    for name, module in base.named_modules():
        attention, products = _part(module, "self_attn"), _feed_forward(module)
        if _part(attention, "q_proj") is not None and products and "vision" not in name:
            _start_attention(attention, draw)
            for linear in products:
                nn.init.normal_(linear.weight, 0.0, linear.in_features**-0.5, draw)
            products[-1].weight.mul_(0.5)
        resampler: Any = _part(module, "x_attn")
        if resampler is not None:
            _start_attention(resampler, draw)
            nn.init.orthogonal_(resampler.k_proj.weight, generator=draw)
            # It reads vectors of length 1.
            nn.init.normal_(module.dense.weight, 0.0, 1.0, draw)


def start_as_pretrained(vlm: Vlm, seed: int) -> None:
    """Draws a small VLM's words and language model anew, as its pretraining began.

    Args:
        vlm: a small VLM with fresh weights.
        seed: of the weights.

    Raises:
        UserError: see `start_language_model`.
    """
    start_words(vlm, seed)
    start_language_model(vlm.base, seed + 2)


def _start_attention(attention: Any, draw: torch.Generator) -> None:
    if attention.k_proj.weight.shape != attention.q_proj.weight.shape:
        raise UserError(
            "Queries cannot equal keys where several query heads share one key head.",
            "Start this VLM with --init scratch.",
        )
    out = getattr(attention, "o_proj", None) or attention.out_proj
    nn.init.orthogonal_(attention.q_proj.weight, generator=draw)
    attention.k_proj.weight.copy_(attention.q_proj.weight)
    nn.init.orthogonal_(attention.v_proj.weight, generator=draw)
    out.weight.copy_(attention.v_proj.weight.T * _COPIED)


def _part(module: Any, name: str) -> Any:
    return getattr(module, name, None) if isinstance(module, nn.Module) else None


def _feed_forward(layer: nn.Module) -> list[Any]:
    """The products of a layer's feed-forward part, the one out of it last; none for other kinds."""
    mlp, ffn = _part(layer, "mlp"), _part(layer, "ffn")
    if _part(mlp, "gate_proj") is not None:
        return [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if _part(ffn, "fc1") is not None:
        return [ffn.fc1, ffn.fc2]
    return []
