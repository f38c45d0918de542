"""Qwen3-VL with a mixture of experts."""

from collections.abc import Mapping
from dataclasses import replace

from transformers import Qwen3VLMoeConfig

from vlm4vla.model.families.qwen3_vl import sizes
from vlm4vla.model.family import FAMILIES, register


def tiny(
    tokens: Mapping[str, int],
    vision_layers: int = 3,
    vision_width: int = 64,
    language_layers: int = 2,
    language_width: int = 64,
    heads: int = 4,
    experts: int = 4,
) -> Qwen3VLMoeConfig:
    """A small config of the real class: two of `experts` are active for a token."""
    values = sizes(
        tokens,
        vision_layers=vision_layers,
        vision_width=vision_width,
        language_layers=language_layers,
        language_width=language_width,
        heads=heads,
    )
    values["text_config"] |= {
        "num_experts": experts,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": language_width,
    }
    return Qwen3VLMoeConfig(**values)


register(
    replace(
        FAMILIES.get("qwen3-vl"),
        name="qwen3-vl-moe",
        model_types=("qwen3_vl_moe",),
        tiny=tiny,
        paper="Qwen/Qwen3-VL-30B-A3B-Instruct",
        hub={"Qwen/Qwen3-VL-30B-A3B-Instruct": 31.1},
    )
)
