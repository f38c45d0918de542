"""Qwen3-VL (dense)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import Qwen3VLConfig

from vlm4vla.model.family import FAMILIES, HALF, Family, Rows, grid, patches

PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{image}<|vision_end|>{text}<|im_end|>\n<|im_start|>assistant\n"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def side(config: Any) -> int:
    """448 for released models; a tiny config names its own."""
    return int(getattr(config.vision_config, "image_size", 448))


def _cut(config: Any) -> tuple[int, int, int]:
    vision = config.vision_config
    return vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size


def image_tokens(config: Any) -> int:
    """One token for every merge x merge patches."""
    patch, merge, _ = _cut(config)
    return int(side(config) // (patch * merge)) ** 2


def pixels(pictures: Tensor, config: Any) -> dict[str, Tensor]:
    """Flat patches and their grid."""
    patch, merge, temporal = _cut(config)
    return {
        "pixel_values": patches(pictures, patch, merge, temporal),
        "image_grid_thw": grid(len(pictures), side(config) // patch, pictures.device),
    }


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """What M-RoPE is computed from: token types and the grid of each row's picture."""
    return {
        "mm_token_type_ids": rows.is_image.int(),
        "image_grid_thw": grid(
            len(rows.ids), side(config) // config.vision_config.patch_size, rows.ids.device
        ),
    }


def tiny(
    tokens: Mapping[str, int],
    image_side: int = 128,
    patch: int = 16,
    merge: int = 1,
    vision_layers: int = 6,
    vision_width: int = 192,
    language_layers: int = 4,
    language_width: int = 192,
    heads: int = 6,
) -> Qwen3VLConfig:
    """A small config of the real class.

    Args:
        tokens: the tokenizer's vocabulary, token to id.
        image_side: side of the picture in pixels.
        patch: side of a patch in pixels.
        merge: patches merged into a token, along each side.
        vision_layers: depth of the vision tower.
        vision_width: its width.
        language_layers: depth of the language model.
        language_width: its width.
        heads: attention heads of both; each width must be divisible by 2 * heads.
    """
    head_dim = language_width // heads
    third = head_dim // 6
    return Qwen3VLConfig(
        vision_config={
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
        text_config={
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
                "rope_theta": 10_000.0,
                "mrope_section": [head_dim // 2 - 2 * third, third, third],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokens["<|endoftext|>"],
        },
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        tie_word_embeddings=True,
    )


FAMILIES.add(
    "qwen3-vl",
    Family(
        name="qwen3-vl",
        model_type="qwen3_vl",
        prompt=PROMPT,
        image_token="<|image_pad|>",
        end="<|im_end|>",
        mean_std=HALF,
        side=side,
        image_tokens=image_tokens,
        vision=("visual",),
        projector=(),
        merger=("visual.merger", "visual.deepstack_merger_list"),
        language=("language_model",),
        pixels=pixels,
        inputs=inputs,
        tiny=tiny,
        special=SPECIAL,
        paper="Qwen/Qwen3-VL-2B-Instruct",
        hub={
            "Qwen/Qwen3-VL-2B-Instruct": 2.1,
            "Qwen/Qwen3-VL-4B-Instruct": 4.4,
            "Qwen/Qwen3-VL-8B-Instruct": 8.8,
        },
    ),
)
