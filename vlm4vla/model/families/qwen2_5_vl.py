"""Qwen2.5-VL."""

from collections.abc import Mapping

from transformers import Qwen2_5_VLConfig

from vlm4vla.model import qwen, small
from vlm4vla.model.family import CLIP, Family, register


def tiny(
    tokens: Mapping[str, int],
    image_side: int = 112,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
) -> Qwen2_5_VLConfig:
    """A small config of the real class with one windowed and one full vision layer."""
    half = width // heads // 2
    size = small.Sizes(width, layers, heads)
    text = small.decoder("qwen2_5_vl_text", tokens, "<|endoftext|>", size)
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
    }
    return Qwen2_5_VLConfig(
        vision_config={
            "depth": layers,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_heads": heads,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "window_size": image_side // 2,
            "fullatt_block_indexes": [layers - 1],
            "out_hidden_size": width,
            "image_size": image_side,
        },
        text_config=text,
        tie_word_embeddings=True,
        **qwen.special_ids(tokens),
    )


register(
    Family(
        name="qwen2.5-vl",
        model_types=("qwen2_5_vl",),
        prompt=qwen.PROMPT,
        image_token="<|image_pad|>",
        end="<|im_end|>",
        mean_std=CLIP,
        side=qwen.side,
        image_tokens=qwen.image_tokens,
        vision=("visual",),
        projector=(),
        merger=("visual.merger",),
        language=("language_model",),
        pixels=qwen.pixels,
        inputs=qwen.inputs,
        tiny=tiny,
        differs={"tokens": "the paper gives a system message"},
        special=qwen.SPECIAL,
        paper="Qwen/Qwen2.5-VL-3B-Instruct",
        hub={"Qwen/Qwen2.5-VL-3B-Instruct": 3.8, "Qwen/Qwen2.5-VL-7B-Instruct": 8.3},
    )
)
