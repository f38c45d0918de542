"""Qwen3-VL (dense)."""

from collections.abc import Mapping
from typing import Any

from transformers import Qwen3VLConfig

from vlm4vla.model import qwen
from vlm4vla.model.family import HALF, Family, register


def sizes(
    tokens: Mapping[str, int],
    image_side: int = 128,
    patch: int = 16,
    merge: int = 1,
    vision_layers: int = 6,
    vision_width: int = 192,
    language_layers: int = 4,
    language_width: int = 192,
    heads: int = 6,
    rope_theta: int = 10_000,
) -> dict[str, Any]:
    """Arguments of a small config.

    Args:
        tokens: the tokenizer's vocabulary, token to id.
        image_side: side of the picture in pixels.
        patch: side of a patch in pixels.
        merge: patches merged into a token, along each side.
        vision_layers: depth of the vision tower.
        vision_width: its width.
        language_layers: depth of the language model, at least 2.
        language_width: its width.
        heads: attention heads of both; each width must be divisible by 4 * heads.
        rope_theta: base of the language model's rotary positions; 5,000,000 in the released models.
    """
    head_dim = language_width // heads
    third = head_dim // 6
    return {
        "vision_config": {
            "depth": vision_layers,
            "hidden_size": vision_width,
            "intermediate_size": 4 * vision_width,
            "num_heads": heads,
            "patch_size": patch,
            "spatial_merge_size": merge,
            "temporal_patch_size": 1,
            "out_hidden_size": language_width,
            "num_position_embeddings": (image_side // patch) ** 2,
            "deepstack_visual_indexes": [vision_layers // 3, 2 * vision_layers // 3],
            "image_size": image_side,
        },
        "text_config": {
            "vocab_size": max(tokens.values()) + 1,
            "hidden_size": language_width,
            "intermediate_size": 8 * language_width // 3,
            "num_hidden_layers": language_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": head_dim,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": float(rope_theta),
                "mrope_section": [head_dim // 2 - 2 * third, third, third],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokens["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        "tie_word_embeddings": True,
        **qwen.special_ids(tokens),
    }


def tiny(tokens: Mapping[str, int], **changes: int) -> Qwen3VLConfig:
    """A small config of the real class; `changes` as in `sizes`."""
    return Qwen3VLConfig(**sizes(tokens, **changes))


register(
    Family(
        name="qwen3-vl",
        model_types=("qwen3_vl",),
        prompt=qwen.PROMPT,
        image_token="<|image_pad|>",
        end="<|im_end|>",
        mean_std=HALF,
        side=qwen.side,
        image_tokens=qwen.image_tokens,
        vision=("visual",),
        projector=(),
        merger=("visual.merger", "visual.deepstack_merger_list"),
        language=("language_model",),
        pixels=qwen.pixels,
        inputs=qwen.inputs,
        causal=True,
        tiny=tiny,
        differs={"tokens": "the paper gives a system message"},
        special=qwen.SPECIAL,
        paper="Qwen/Qwen3-VL-2B-Instruct",
        hub={
            "Qwen/Qwen3-VL-2B-Instruct": 2.1,
            "Qwen/Qwen3-VL-4B-Instruct": 4.4,
            "Qwen/Qwen3-VL-8B-Instruct": 8.8,
        },
    )
)
