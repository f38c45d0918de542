"""Small sizes for `:tiny` presets of parts that several families share."""

from typing import Any


def siglip(
    side: int, patch: int, width: int, layers: int, heads: int, ratio: int = 2
) -> dict[str, Any]:
    """A SigLIP vision tower without its pooling head; `ratio` is its MLP's width over its own."""
    return {
        "model_type": "siglip_vision_model",
        "image_size": side,
        "patch_size": patch,
        "hidden_size": width,
        "intermediate_size": ratio * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vision_use_head": False,
    }


def decoder(
    model_type: str,
    words: int,
    width: int,
    layers: int,
    heads: int,
    pad: int,
    rope_theta: int = 10_000,
) -> dict[str, Any]:
    """A decoder-only language model whose word embeddings are tied to its output."""
    return {
        "model_type": model_type,
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(rope_theta)},
        "pad_token_id": pad,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
    }
