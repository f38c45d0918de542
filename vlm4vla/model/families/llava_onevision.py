"""LLaVA-OneVision: a picture is seen whole and once more as a crop with line ends."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaOnevisionConfig

from vlm4vla.model import small
from vlm4vla.model.family import HALF, Family, Rows, register


def image_tokens(config: Any) -> int:
    """The whole picture, then the crop with one more token a line."""
    line = int(config.vision_config.image_size // config.vision_config.patch_size)
    return line * line + line * (line + 1)


def grid(config: Any) -> slice:
    """The tokens of the whole picture; those of the crop have line ends among them."""
    line = int(config.vision_config.image_size // config.vision_config.patch_size)
    return slice(line * line)


def _square(count: int, config: Any, device: torch.device) -> dict[str, Tensor]:
    side = config.vision_config.image_size
    return {
        "image_sizes": torch.full((count, 2), side, device=device),
        "batch_num_images": torch.ones(count, dtype=torch.long, device=device),
    }


def pixels(pictures: Tensor, config: Any) -> dict[str, Tensor]:
    """A square picture of the tower's own size, which is also its only crop."""
    crops = torch.stack([pictures, pictures], dim=1)
    return {"pixel_values": crops} | _square(len(pictures), config, pictures.device)


def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
    """Sizes of each row's picture."""
    return _square(len(rows.ids), config, rows.ids.device)


def tiny(tokens: Mapping[str, int], patch: int = 32, **sizes: int) -> LlavaOnevisionConfig:
    """A small SigLIP and a small Qwen2, 36 tokens a picture; `sizes` as in `small.Sizes`."""
    size = small.Sizes(patch=patch, **sizes)
    return LlavaOnevisionConfig(
        vision_config=small.siglip(size),
        text_config=small.decoder("qwen2", tokens, "<|endoftext|>", size),
        image_token_index=tokens["<image>"],
        video_token_index=tokens["<video>"],
        image_grid_pinpoints=[[128, 128]],
        tie_word_embeddings=True,
    )


register(
    Family(
        name="llava-onevision",
        model_types=("llava_onevision",),
        prompt="<|im_start|>user {image}\n{text}<|im_end|><|im_start|>assistant\n",
        image_token="<image>",
        end="<|im_end|>",
        mean_std=HALF,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector", "image_newline"),
        language=("language_model",),
        pixels=pixels,
        inputs=inputs,
        grid=grid,
        tiny=tiny,
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
        paper="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        hub={
            "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": 0.9,
            "llava-hf/llava-onevision-qwen2-7b-ov-hf": 8.0,
        },
    )
)
