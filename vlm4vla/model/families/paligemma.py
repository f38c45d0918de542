"""PaliGemma 1 and 2: one class, told apart by the language model."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import PaliGemmaConfig

from vlm4vla.model import small
from vlm4vla.model.family import FAMILIES, HALF, Family, Rows, register


def image_tokens(config: Any) -> int:
    """One token a patch."""
    return int(config.vision_config.image_size // config.vision_config.patch_size) ** 2


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """Type 0 attends in both directions; what follows the prompt is type 1 and only looks back."""
    return {"token_type_ids": (rows.is_query | rows.is_answer).long()}


def _tiny(model_type: str, tokens: Mapping[str, int], width: int, layers: int) -> PaliGemmaConfig:
    heads = 4
    words = max(tokens.values()) + 1
    text = small.decoder(model_type, words, width, layers, heads, tokens["<pad>"])
    return PaliGemmaConfig(
        vision_config=small.siglip(128, 16, width, layers, heads),
        text_config=text | {"query_pre_attn_scalar": width // heads},
        image_token_index=tokens["<image>"],
        projection_dim=width,
        hidden_size=width,
    )


def tiny(tokens: Mapping[str, int], width: int = 64, layers: int = 2) -> PaliGemmaConfig:
    """A small SigLIP and a small Gemma."""
    return _tiny("gemma", tokens, width, layers)


def tiny2(tokens: Mapping[str, int], width: int = 64, layers: int = 2) -> PaliGemmaConfig:
    """A small SigLIP and a small Gemma 2."""
    return _tiny("gemma2", tokens, width, layers)


register(
    Family(
        name="paligemma",
        model_types=("paligemma",),
        text_type="gemma",
        prompt="{image}<bos>{text}\n",
        question="{instruction}",
        image_token="<image>",
        end="<eos>",
        mean_std=HALF,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector",),
        language=("language_model",),
        inputs=inputs,
        tiny=tiny,
        special=("<pad>", "<eos>", "<bos>", "<image>"),
        paper="google/paligemma-3b-pt-224",
        hub={"google/paligemma-3b-pt-224": 2.9},
    )
)

register(
    replace(
        FAMILIES.get("paligemma"),
        name="paligemma2",
        text_type="gemma2",
        tiny=tiny2,
        paper="google/paligemma2-3b-pt-224",
        hub={"google/paligemma2-3b-pt-224": 3.0},
    )
)
