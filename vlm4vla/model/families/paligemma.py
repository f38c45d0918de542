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


def _config(model_type: str, tokens: Mapping[str, int], **sizes: int) -> PaliGemmaConfig:
    size = small.Sizes(**sizes)
    text = small.decoder(model_type, tokens, "<pad>", size)
    return PaliGemmaConfig(
        vision_config=small.siglip(size),
        text_config=text | {"query_pre_attn_scalar": size.width // size.heads},
        image_token_index=tokens["<image>"],
        projection_dim=size.width,
        hidden_size=size.width,
    )


def tiny(tokens: Mapping[str, int], **sizes: int) -> PaliGemmaConfig:
    """A small SigLIP and a small Gemma; `sizes` as in `small.Sizes`."""
    return _config("gemma", tokens, **sizes)


def tiny2(tokens: Mapping[str, int], **sizes: int) -> PaliGemmaConfig:
    """The same with a small Gemma 2."""
    return _config("gemma2", tokens, **sizes)


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
