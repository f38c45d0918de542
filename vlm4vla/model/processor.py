"""How a repository's own processor writes one picture and one sentence.

The processor is put together from transformers' parts as its class does it, with the PIL image
processor and without the part for videos, which needs packages that are not wanted here.
"""

import contextlib
import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import transformers
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.models.auto import processing_auto

from vlm4vla.errors import UserError
from vlm4vla.model.source import Source, quiet

COLOUR = (200, 100, 50)
"""Of the one plain picture that is written: no resizing changes it, and its channels differ."""

MeanStd: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""By channel, of values in 0..1."""

_MEND = "Mend it in processor_config.json or preprocessor_config.json."

SHIPPED = ("processor_config.json", "preprocessor_config.json")


@dataclasses.dataclass(frozen=True)
class Written:
    """One plain picture and one sentence, as a processor writes them.

    Attributes:
        ids: token ids, image tokens included.
        pixels: `pixel_values`, with a first axis for the one picture.
        black: (3,) what becomes of black, by channel.
        further: whatever else it gives to the model.
    """

    ids: list[int]
    pixels: Tensor
    black: Tensor
    further: Mapping[str, Tensor]


def write(source: Source, kind: str, token: str, sentence: str, side: int) -> Written | str | None:
    """What the repository's processor makes of a plain picture and a sentence.

    Args:
        source: the repository.
        kind: its model type.
        token: the one that stands for a picture.
        sentence: the user's words.
        side: of the picture.

    Returns:
        None if it ships no processor; why in words if its processor cannot be used here.
    """
    if not any(source.find(name) for name in SHIPPED):
        return None
    try:
        with quiet():
            return _write(_build(source, kind), token, sentence, side)
    except Exception as error:  # noqa: BLE001 - each class has its own for a part that is missing
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first}"


def _build(source: Source, kind: str) -> Any:
    settings = source.json("processor_config.json") or {}
    known = processing_auto.PROCESSOR_MAPPING_NAMES  # type: ignore[attr-defined]
    name = settings.get("processor_class") or known.get(kind)
    if name is None:
        raise ValueError(f"transformers has no processor for {kind!r}.")
    plain: Any = getattr(transformers, name)
    options: dict[str, Any] = {"local_files_only": source.local, "trust_remote_code": False}
    parts = {
        "tokenizer": lambda: AutoTokenizer.from_pretrained(source.name, **options),
        "image_processor": lambda: AutoImageProcessor.from_pretrained(
            source.name, backend="pil", **options
        ),
    }

    class Processor(plain):
        def check_argument_for_proper_class(self, name: str, part: Any) -> Any:
            return (
                type(part) if part is None else super().check_argument_for_proper_class(name, part)
            )

    Processor.__name__ = plain.__name__
    args = [parts[part]() if part in parts else None for part in plain.get_attributes()]
    found, _ = plain.get_processor_dict(source.name, local_files_only=source.local)
    return Processor.from_args_and_dict(args, found)


def _write(processor: Any, token: str, sentence: str, side: int) -> Written:
    picture = Image.new("RGB", (side, side), COLOUR)

    def written(text: str, **options: Any) -> dict[str, Any]:
        return dict(processor(images=[picture], text=[text], return_tensors="pt", **options))

    template = processor.chat_template or getattr(processor.tokenizer, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default")
    if template:
        content = [{"type": "image", "image": picture}, {"type": "text", "text": sentence}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=on_one_day(template),
            tokenize=False,
            add_generation_prompt=True,
        )
        begins = processor.tokenizer.bos_token
        once = {"add_special_tokens": False} if begins and text.startswith(begins) else {}
        found = written(text, **once)
    else:
        # Some put the picture in by themselves, others where the text says so, or else refuse.
        image = processor.tokenizer.convert_tokens_to_ids(token)
        found = {}
        with contextlib.suppress(ValueError):
            found = written(sentence)
        if not found or image not in found["input_ids"][0]:
            found = written(f"{token}\n{sentence}\n")
    values = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    ids = values.pop("input_ids")[0].tolist()
    values.pop("attention_mask", None)
    night = processor.image_processor(Image.new("RGB", (side, side)), return_tensors="pt")
    pixels, black = values.pop("pixel_values").float(), night["pixel_values"].float()
    return Written(ids, pixels, black.reshape(3, -1)[:, 0], values)


def normalisation(settings: Mapping[str, Any]) -> MeanStd | None:
    """Mean and deviation on values in 0..1 that amount to what an image processor's settings say.

    Args:
        settings: of an image processor; `do_normalize`, `do_rescale` and `rescale_factor` count.

    Returns:
        None if they name no mean and deviation, though they are used.

    Raises:
        UserError: a setting is of another kind, or no picture could be made with it.
    """
    scale = 255.0
    if _switched_on(settings, "do_rescale"):
        scale = 255 * _three(settings, "rescale_factor", 1 / 255)[0]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if _switched_on(settings, "do_normalize"):
        if settings.get("image_mean") is None or settings.get("image_std") is None:
            return None
        mean, std = _three(settings, "image_mean"), _three(settings, "image_std")
    if scale == 0 or 0 in std:
        raise UserError(
            "The picture settings divide by zero: rescale_factor or image_std is 0.", _MEND
        )
    return tuple(m / scale for m in mean), tuple(s / scale for s in std)


def _switched_on(settings: Mapping[str, Any], name: str) -> bool:
    value = settings.get(name)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise UserError(f"The picture setting {name} is {value!r}, not true or false.", _MEND)
    return value


def _three(
    settings: Mapping[str, Any], name: str, otherwise: float | None = None
) -> tuple[float, ...]:
    value = settings.get(name)
    value = otherwise if value is None else value
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3
    numbers = [isinstance(one, (int, float)) and math.isfinite(one) for one in values]
    if len(values) != 3 or not all(numbers):
        wish = "one finite number or three"
        raise UserError(f"The picture setting {name} is {value!r}, not {wish}.", _MEND)
    return tuple(map(float, values))


def image_settings(source: Source) -> dict[str, Any]:
    """Settings of the image processor, wherever they are kept."""
    nested = (source.json("processor_config.json") or {}).get("image_processor")
    if isinstance(nested, dict):
        return nested
    return source.json("preprocessor_config.json") or {}


def on_one_day(template: str) -> str:
    """A chat template that is told the same date whenever it asks (`strftime_now`).

    A prompt that changes from day to day would not be the one that a policy was trained on. The
    date is the one that Llama's templates write when they are told none.
    """
    day = datetime.datetime(2024, 7, 26)
    signs = ("%-d", "%-m", *(f"%{letter}" for letter in "aAbBdmyYjHIMSp"))
    replaced = "".join(f" | replace('{sign}', '{day.strftime(sign)}')" for sign in signs)
    return "{% macro strftime_now(form) %}{{ form" + replaced + " }}{% endmacro %}" + template


def chat_template(source: Source) -> str | None:
    """The chat template, wherever it is kept."""
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        if (text := source.text("chat_template.jinja")) is not None:
            return text
        found = (source.json(name) or {}).get("chat_template")
        if isinstance(found, list):
            named = [one for one in found if isinstance(one, dict)]
            found = next((one.get("template") for one in named if one.get("name") == "default"), "")
        if isinstance(found, str) and found:
            return found
    return None


def special_tokens(source: Source) -> dict[str, str]:
    """`bos_token` and the like, which templates write."""
    found = {}
    for name, value in (source.json("tokenizer_config.json") or {}).items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def added_around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer itself puts before and after every text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:at], whole[at + len(bare) :]
