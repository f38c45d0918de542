"""Gemma 3 (4B and larger, which see)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import Gemma3Config

from vlm4vla.model import small
from vlm4vla.model.family import HALF, Family, Rows, register


def image_tokens(config: Any) -> int:
    """Pooled patches."""
    return int(config.mm_tokens_per_image)


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """The tokens of a picture attend to one another in both directions."""
    return {"token_type_ids": rows.is_image.long()}


def tiny(tokens: Mapping[str, int], width: int = 64) -> Gemma3Config:
    """A small SigLIP and a small Gemma 3 with one sliding and one full layer."""
    size = small.Sizes(width)
    text = small.decoder("gemma3_text", tokens, "<pad>", size)
    return Gemma3Config(
        vision_config=small.siglip(size),
        text_config=text
        | {
            "query_pre_attn_scalar": width // size.heads,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=16,
        boi_token_index=tokens["<start_of_image>"],
        eoi_token_index=tokens["<end_of_image>"],
        image_token_index=tokens["<image_soft_token>"],
    )


register(
    Family(
        name="gemma3",
        model_types=("gemma3",),
        prompt=(
            "<bos><start_of_turn>user\n\n\n<start_of_image>{image}<end_of_image>\n\n"
            "{text}<end_of_turn>\n<start_of_turn>model\n"
        ),
        image_token="<image_soft_token>",
        end="<end_of_turn>",
        mean_std=HALF,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector",),
        language=("language_model",),
        inputs=inputs,
        tiny=tiny,
        special=(
            "<pad>",
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ),
        paper="google/gemma-3-4b-it",
        hub={"google/gemma-3-4b-it": 4.3, "google/gemma-3-12b-it": 12.2},
    )
)
