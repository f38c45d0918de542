"""Florence-2: the encoder reads picture and text, the decoder reads the action query."""

from collections.abc import Mapping
from typing import Any

from transformers import Florence2Config

from vlm4vla.model.family import IMAGENET, Family, register

STRIDE = 32


def side(config: Any) -> int:
    """768 for released models; a tiny config names its own."""
    return int(getattr(config.vision_config, "image_size", 768))


def image_tokens(config: Any) -> int:
    """The mean of all places, then every place of the last stage."""
    return 1 + int(side(config) // STRIDE) ** 2


def grid(config: Any) -> slice:
    """All but the mean."""
    return slice(1, None)


def tiny(tokens: Mapping[str, int], width: int = 64, layers: int = 2) -> Florence2Config:
    """A small DaViT and a small BART, 17 tokens a picture."""
    heads = 4
    return Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [16, 32, 48, width],
            "num_heads": [1, 2, 3, 4],
            "num_groups": [1, 2, 3, 4],
            "window_size": 4,
            "projection_dim": width,
            "image_size": 128,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": max(tokens.values()) + 1,
            "d_model": width,
            "encoder_layers": layers,
            "decoder_layers": layers,
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "encoder_ffn_dim": 2 * width,
            "decoder_ffn_dim": 2 * width,
            "pad_token_id": tokens["<pad>"],
            "bos_token_id": tokens["<s>"],
            "eos_token_id": tokens["</s>"],
            "decoder_start_token_id": tokens["</s>"],
        },
        image_token_id=tokens["<image>"],
    )


register(
    Family(
        name="florence-2",
        model_types=("florence2",),
        prompt="{image}<s>{text}</s>",
        image_token="<image>",
        end="</s>",
        mean_std=IMAGENET,
        side=side,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector",),
        language=("language_model",),
        grid=grid,
        tiny=tiny,
        special=("<pad>", "<s>", "</s>", "<image>"),
        paper="florence-community/Florence-2-base",
        hub={
            "florence-community/Florence-2-base": 0.23,
            "florence-community/Florence-2-large": 0.77,
        },
    )
)
