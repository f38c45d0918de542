"""InternVL 3 and 3.5, in transformers' own class (the Hub's `-HF` repositories)."""

from collections.abc import Mapping
from typing import Any

from transformers import InternVLConfig

from vlm4vla.model import small
from vlm4vla.model.family import IMAGENET, Family, register


def image_tokens(config: Any) -> int:
    """Patches after pixel shuffle; a single tile."""
    vision = config.vision_config
    return int(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio) ** 2


def tiny(tokens: Mapping[str, int], **sizes: int) -> InternVLConfig:
    """A small InternViT and a small Qwen3, four patches a token; `sizes` as in `small.Sizes`."""
    size = small.Sizes(**sizes)
    return InternVLConfig(
        vision_config=small.tower(size),
        text_config=small.decoder("qwen3", tokens, "<|endoftext|>", size),
        image_token_id=tokens["<IMG_CONTEXT>"],
        image_seq_length=(64 // size.patch) ** 2,
    )


register(
    Family(
        name="internvl",
        model_types=("internvl",),
        prompt=(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            "<img>{image}</img>{text}<|im_end|>\n<|im_start|>assistant\n"
        ),
        image_token="<IMG_CONTEXT>",
        end="<|im_end|>",
        mean_std=IMAGENET,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector",),
        language=("language_model",),
        causal=True,
        tiny=tiny,
        differs={"tokens": "the paper gives a system message and no line end after the picture"},
        special=(
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<img>",
            "</img>",
            "<IMG_CONTEXT>",
        ),
        paper="OpenGVLab/InternVL3_5-4B-HF",
        hub={"OpenGVLab/InternVL3_5-4B-HF": 4.7, "OpenGVLab/InternVL3_5-1B-HF": 1.1},
    )
)
