"""SmolVLM 1 and 2 (and Idefics 3, which has the same parts), one tile a picture."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import SmolVLMConfig

from vlm4vla.model import small
from vlm4vla.model.family import HALF, Family, register


def image_tokens(config: Any) -> int:
    """Patches after pixel shuffle."""
    vision = config.vision_config
    return int(vision.image_size // vision.patch_size // config.scale_factor) ** 2


def pixels(pictures: Tensor, config: Any) -> dict[str, Tensor]:
    """One tile a picture, all of it valid."""
    batch, _, height, width = pictures.shape
    mask = torch.ones(batch, 1, height, width, dtype=torch.bool, device=pictures.device)
    return {"pixel_values": pictures[:, None], "pixel_attention_mask": mask}


def tiny(tokens: Mapping[str, int], **sizes: int) -> SmolVLMConfig:
    """A small SigLIP and a small Llama, 16 tokens a picture; `sizes` as in `small.Sizes`."""
    size = small.Sizes(**sizes)
    return SmolVLMConfig(
        vision_config=small.siglip(size) | {"model_type": "smolvlm_vision"},
        text_config=small.decoder("llama", tokens, "<|im_end|>", size),
        image_token_id=tokens["<image>"],
        tie_word_embeddings=True,
    )


register(
    Family(
        name="smolvlm",
        model_types=("smolvlm", "idefics3"),
        prompt=(
            "<|im_start|>User:<fake_token_around_image><global-img>{image}"
            "<fake_token_around_image>{text}<end_of_utterance>\nAssistant:"
        ),
        image_token="<image>",
        end="<end_of_utterance>",
        mean_std=HALF,
        image_tokens=image_tokens,
        vision=("vision_model",),
        projector=("connector",),
        language=("text_model",),
        pixels=pixels,
        tiny=tiny,
        differs={
            "tokens": "one tile a picture instead of several",
            "pixels": "one tile a picture instead of several",
        },
        special=(
            "<|im_end|>",
            "<|im_start|>",
            "<image>",
            "<fake_token_around_image>",
            "<end_of_utterance>",
        ),
        paper="HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        hub={
            "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": 0.26,
            "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": 0.51,
            "HuggingFaceTB/SmolVLM2-2.2B-Instruct": 2.2,
        },
    )
)
