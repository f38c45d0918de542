"""Small sizes for `:tiny` presets of parts that several families share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How large a tiny VLM is whose vision tower and language model have one width.

    Attributes:
        width: of both.
        layers: of the language model.
        heads: of both.
        patch: side of a patch in pixels, of pictures of 128.
        vision_layers: of the vision tower.
        ratio: width of the vision tower's MLP over its own.
        rope_theta: base of the language model's rotary positions, where it has such.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    patch: int = 16
    vision_layers: int = 2
    ratio: int = 2
    rope_theta: int = 10_000


def tower(sizes: Sizes) -> dict[str, Any]:
    """A vision transformer over pictures of 128 pixels."""
    return {
        "image_size": 128,
        "patch_size": sizes.patch,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.ratio * sizes.width,
        "num_hidden_layers": sizes.vision_layers,
        "num_attention_heads": sizes.heads,
    }


def siglip(sizes: Sizes) -> dict[str, Any]:
    """A SigLIP vision tower without its pooling head."""
    return {"model_type": "siglip_vision_model", **tower(sizes), "vision_use_head": False}


def decoder(model_type: str, tokens: Mapping[str, int], pad: str, sizes: Sizes) -> dict[str, Any]:
    """A decoder-only language model whose word embeddings are tied to its output.

    Args:
        model_type: of its config.
        tokens: the tokenizer's vocabulary, token to id.
        pad: the token of padding.
        sizes: how large it is.
    """
    return {
        "model_type": model_type,
        "vocab_size": max(tokens.values()) + 1,
        "hidden_size": sizes.width,
        "intermediate_size": 2 * sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "head_dim": sizes.width // sizes.heads,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(sizes.rope_theta)},
        "pad_token_id": tokens[pad],
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
    }
