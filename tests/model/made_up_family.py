"""A family that the library does not know: all that a new VLM takes is a file like this."""

from transformers import LlavaConfig

from vlm4vla.model import small
from vlm4vla.model.family import CLIP, Family, register


def image_tokens(config):
    """One token a patch; the class token is left out."""
    return (config.vision_config.image_size // config.vision_config.patch_size) ** 2


def tiny(tokens, **sizes):
    """A small CLIP, of pictures of 64 pixels, and a small Llama."""
    size = small.Sizes(**{"width": 32, "vision_layers": 3} | sizes)
    return LlavaConfig(
        vision_config=small.siglip(size) | {"model_type": "clip_vision_model", "image_size": 64},
        text_config=small.decoder("llama", tokens, "<pad>", size),
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
