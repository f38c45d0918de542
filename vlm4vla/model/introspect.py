"""Adapting an architecture that no family file describes, from what the model says of itself."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel, PreTrainedTokenizerFast

from vlm4vla.errors import UserError
from vlm4vla.model.family import HALF, Family, Rows
from vlm4vla.model.vlm import BUILDING

VISION = ("visual", "vision_tower", "vision_model", "vision_encoder", "vision_backbone")
LANGUAGE = ("language_model", "text_model", "text_decoder")
PLAIN = "{image}\n{text}\n"


def introspect(
    config: Any, tokenizer: Tokenizer, extras: Mapping[str, str]
) -> tuple[Family, tuple[str, ...]]:
    """A family made up for one model, and what was assumed to do so.

    Nothing is loaded: the model is built without memory for its weights, and one picture of no
    content goes through it to see how many tokens it becomes.

    Args:
        config: the model's transformers config.
        tokenizer: the model's.
        extras: small files of its folder, by name.

    Raises:
        UserError: something is missing that cannot be assumed; the message says what.
    """
    kind = config.model_type
    try:
        with BUILDING, torch.device("meta"):
            base = AutoModel.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UserError(f"transformers has no bare model for {kind!r}.") from error
    size = getattr(getattr(config, "vision_config", None), "image_size", None)
    token = _image_token(config, tokenizer)
    vision, language = _first(base, VISION), _first(base, LANGUAGE)
    for missing, found in (
        ("`get_image_features`, so it does not see", hasattr(base, "get_image_features")),
        (f"a vision tower under any of: {', '.join(VISION)}", vision),
        (f"a language model under any of: {', '.join(LANGUAGE)}", language),
        ("`vision_config.image_size`", size),
        ("`image_token_id`, or its tokenizer lacks that token", token),
    ):
        if not found:
            raise _refused(kind, f"It has no {missing}.")
    assert vision and language and token and size
    side = size if isinstance(size, int) else size[0]
    tokens = _count_tokens(base, kind, side)
    mean_std, pixels_from = _mean_std(extras)
    prompt, prompt_from = _prompt(tokenizer, extras, token)
    projector = tuple(
        name
        for name, part in [*base.named_children(), *base.named_parameters(recurse=False)]
        if name not in (vision, language)
        and (isinstance(part, Tensor) or any(True for _ in part.parameters()))
    )
    accepted = inspect.signature(base.forward).parameters
    types = [name for name in ("mm_token_type_ids", "token_type_ids") if name in accepted]

    def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
        return {name: rows.is_image.long() for name in types}

    def no_tiny(tokens: Mapping[str, int]) -> Any:
        raise UserError(f"{kind!r} has no tiny preset.")

    family = Family(
        name=f"auto:{kind}",
        model_types=(kind,),
        prompt=prompt,
        image_token=token,
        end="",
        mean_std=mean_std,
        side=lambda config: side,
        image_tokens=lambda config: tokens,
        vision=(vision,),
        projector=projector,
        language=(language,),
        inputs=inputs,
        tiny=no_tiny,
        special=(),
        paper="",
        hub={},
    )
    return family, (
        f"No family describes {kind!r}; it was adapted from what it says of itself:",
        f"  vision tower {vision}; projector {', '.join(projector) or 'none'}; language model "
        f"{language}",
        f"  pictures of {side} pixels, {tokens} tokens {token!r}; mean and deviation {pixels_from}",
        f"  prompt {prompt_from}: {prompt!r}",
        f"  image tokens marked by: {', '.join(types) or 'nothing'}",
        "Run `vlm4vla probe` on it before trusting it.",
    )


def _refused(kind: str, why: str) -> UserError:
    return UserError(
        f"No family describes {kind!r} and it cannot be adapted by itself. {why}",
        "Describe it in a file of vlm4vla/model/families.",
    )


def _first(base: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if hasattr(base, name)), None)


def _image_token(config: Any, tokenizer: Tokenizer) -> str | None:
    for name in ("image_token_id", "image_token_index"):
        found = getattr(config, name, None)
        if found is not None:
            return tokenizer.id_to_token(int(found))
    return None


def _count_tokens(base: Any, kind: str, side: int) -> int:
    picture = torch.zeros(1, 3, side, side, device="meta", dtype=base.dtype)
    try:
        found = base.get_image_features(pixel_values=picture, return_dict=True).pooler_output
        return int(found.shape[-2] if isinstance(found, Tensor) else found[0].shape[-2])
    except (AttributeError, IndexError, NotImplementedError, RuntimeError) as error:
        raise _refused(kind, f"Its picture features could not be computed: {error}.") from error
    except (TypeError, ValueError) as error:
        raise _refused(kind, f"Its pictures need more than pixels: {error}.") from error


def _mean_std(
    extras: Mapping[str, str],
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], str]:
    settings = json.loads(extras.get("preprocessor_config.json", "{}"))
    if "image_mean" in settings and "image_std" in settings:
        return (tuple(settings["image_mean"]), tuple(settings["image_std"])), "as shipped"
    return HALF, "0.5, for none are shipped"


def _prompt(tokenizer: Tokenizer, extras: Mapping[str, str], token: str) -> tuple[str, str]:
    template = extras.get("chat_template.jinja")
    if template is None:
        return PLAIN, "without a chat template"
    speaker = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)
    content = [{"type": "image"}, {"type": "text", "text": "{text}"}]
    talk: Any = [{"role": "user", "content": content}]
    written = str(speaker.apply_chat_template(talk, tokenize=False, add_generation_prompt=True))
    if written.count(token) != 1 or written.count("{text}") != 1:
        return PLAIN, "without the chat template, which has no place for one picture"
    return written.replace(token, "{image}"), "from the chat template"
