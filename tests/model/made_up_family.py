"""A family that the library does not know: all that a new VLM takes is a file like this."""

from transformers import LlavaConfig

from vlm4vla.model import small
from vlm4vla.model.family import CLIP, Family, register


def image_tokens(config):
    """One token a patch; the class token is left out."""
    return (config.vision_config.image_size // config.vision_config.patch_size) ** 2


def tiny(tokens, width=32, layers=3):
    """A small CLIP and a small Llama."""
    vision = small.siglip(64, 16, width, layers, 4) | {"model_type": "clip_vision_model"}
    words = max(tokens.values()) + 1
    return LlavaConfig(
        vision_config=vision,
        text_config=small.decoder("llama", words, width, 2, 4, tokens["<pad>"]),
        image_token_index=tokens["<image>"],
        tie_word_embeddings=True,
    )


register(
    Family(
        name="made-up",
        model_types=("llava",),
        prompt="USER: {image}\n{text} ASSISTANT:",
        image_token="<image>",
        end="</s>",
        mean_std=CLIP,
        image_tokens=image_tokens,
        vision=("vision_tower",),
        projector=("multi_modal_projector",),
        language=("language_model",),
        tiny=tiny,
        special=("<pad>", "</s>", "<image>"),
        paper="",
        hub={},
    )
)
