"""Kosmos-2: its image latents stand before the text, whose literal image tags stay."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import Kosmos2Config

from vlm4vla.model import small
from vlm4vla.model.family import CLIP, Family, Rows, register


def image_tokens(config: Any) -> int:
    """One token a latent query of the projector."""
    return int(config.latent_query_num)


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """Which columns are replaced by image latents."""
    return {"image_embeds_position_mask": rows.is_image.long()}


def tiny(tokens: Mapping[str, int], latents: int = 16, **sizes: int) -> Kosmos2Config:
    """A small config of the real class.

    Args:
        tokens: the tokenizer's vocabulary, token to id.
        latents: image tokens, whatever the number of patches.
        **sizes: as in `small.Sizes`; the MLPs of both have its ratio, positions are not rotary.
    """
    size = small.Sizes(**sizes)
    return Kosmos2Config(
        vision_config=small.tower(size),
        text_config={
            "vocab_size": max(tokens.values()) + 1,
            "max_position_embeddings": 1024,
            "embed_dim": size.width,
            "layers": size.layers,
            "ffn_dim": size.ratio * size.width,
            "attention_heads": size.heads,
            # So small a model never sees its data twice.
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "pad_token_id": tokens["<pad>"],
            "bos_token_id": tokens["<s>"],
            "eos_token_id": tokens["</s>"],
        },
        latent_query_num=latents,
    )


def no_grid(config: Any) -> None:
    """Every latent has looked at the whole picture."""


register(
    Family(
        name="kosmos-2",
        model_types=("kosmos-2",),
        prompt="{image}<s><image><image_pad></image><p>{text}\n</p>",
        question="{instruction}",
        image_token="<image>",
        end="</s>",
        mean_std=CLIP,
        image_tokens=image_tokens,
        vision=("vision_model",),
        projector=("image_to_text_projection",),
        language=("text_model",),
        inputs=inputs,
        grid=no_grid,
        patches="image_to_text_projection.dense",
        tiny=tiny,
        differs={
            "tokens": "the paper puts the latents first",
            "arguments": "the positions of the latents follow",
        },
        special=("<pad>", "<s>", "</s>", "<image>", "</image>"),
        paper="microsoft/kosmos-2-patch14-224",
        hub={"microsoft/kosmos-2-patch14-224": 1.7},
    )
)
