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


def _tiny(model_type: str, tokens: Mapping[str, int], **sizes: int) -> PaliGemmaConfig:
    width, heads = sizes["width"], sizes["heads"]
    text = small.decoder(
        model_type,
        max(tokens.values()) + 1,
        width,
        sizes["layers"],
        heads,
        tokens["<pad>"],
        sizes["rope_theta"],
    )
    return PaliGemmaConfig(
        vision_config=small.siglip(
            128, sizes["patch"], width, sizes["vision_layers"], heads, sizes["ratio"]
        ),
        text_config=text | {"query_pre_attn_scalar": width // heads},
        image_token_index=tokens["<image>"],
        projection_dim=width,
        hidden_size=width,
    )


def tiny(
    tokens: Mapping[str, int],
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    patch: int = 16,
    vision_layers: int = 2,
    ratio: int = 2,
    rope_theta: int = 10_000,
) -> PaliGemmaConfig:
    """A small SigLIP and a small Gemma.

    Args:
        tokens: the tokenizer's vocabulary, token to id.
        width: of both.
        layers: of the language model.
        heads: of both.
        patch: side of a patch in pixels, of pictures of 128.
        vision_layers: of the vision tower.
        ratio: width of the vision tower's MLP over its own.
        rope_theta: base of the language model's rotary positions.
    """
    return _tiny(
        "gemma",
        tokens,
        width=width,
        layers=layers,
        heads=heads,
        patch=patch,
        vision_layers=vision_layers,
        ratio=ratio,
        rope_theta=rope_theta,
    )


def tiny2(tokens: Mapping[str, int], width: int = 64, layers: int = 2) -> PaliGemmaConfig:
    """A small SigLIP and a small Gemma 2."""
    return _tiny(
        "gemma2",
        tokens,
        width=width,
        layers=layers,
        heads=4,
        patch=16,
        vision_layers=layers,
        ratio=2,
        rope_theta=10_000,
    )


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
