"""Adapting an architecture that no family file describes, from what the repository says of it.

How pictures and words are written comes from the repository's own processor where it can be put
together, else from its settings, chat template and tokenizer.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel, PreTrainedTokenizerFast

from vlm4vla.errors import UserError
from vlm4vla.model import processor
from vlm4vla.model.family import HALF, QUESTION, Family, Rows
from vlm4vla.model.forward import encode, rehearse
from vlm4vla.model.processor import MeanStd, Written
from vlm4vla.model.prompt import token_ids
from vlm4vla.model.source import Source
from vlm4vla.model.vlm import BUILDING, Vlm

VISION = ("visual", "vision_tower", "vision_model", "vision_encoder", "vision_backbone")
LANGUAGE = ("language_model", "text_model", "text_decoder")
PLAIN = "{image}\n{text}\n"
MARKS = ("mm_token_type_ids", "token_type_ids")
SENTENCE = QUESTION.format(instruction="pick up the red cube")

_SETTINGS = "Look at the picture settings in processor_config.json."

_NO_DATA = ("meta tensor", "Meta tensor", "meta device", "no data", "data-dependent")
"""What torch says when a model asks for numbers while it has no memory; that proves nothing."""


@dataclasses.dataclass(frozen=True)
class _Writing:
    """How pictures and words are written.

    Attributes:
        prompt: see `Family`.
        mean_std: see `Family`.
        shape: of one picture's `pixel_values`, without the first axis; None for (3, side, side).
        further: what else the processor gives for a picture, by name.
        account: where it comes from, for people.
    """

    prompt: str
    mean_std: MeanStd
    shape: tuple[int, ...] | None
    further: Mapping[str, Tensor]
    account: tuple[str, str]


def introspect(config: Any, tokenizer: Tokenizer, source: Source) -> tuple[Family, tuple[str, ...]]:
    """A family made up for one model, and what was assumed to do so.

    Nothing is loaded: the model is built without memory for its weights, and one picture of no
    content goes through it to see how many tokens it becomes.

    Args:
        config: the model's transformers config.
        tokenizer: the model's.
        source: the repository.

    Raises:
        UserError: something is missing that cannot be assumed; the message says what.
    """
    kind = config.model_type
    try:
        with BUILDING, torch.device("meta"):
            base = AutoModel.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UserError(
            f"transformers has no bare model for {kind!r}, only one with its word head.",
            "This recipe needs the hidden states before it.",
        ) from error
    vision, language = _parts(kind, config, base)
    side, token = _side(kind, config), _image_token(kind, config, tokenizer)
    written = processor.write(source, kind, token, SENTENCE, side)
    if isinstance(written, Written):
        settings = None
        # Its own processor may know what to do with settings that nobody else understands.
        with contextlib.suppress(UserError):
            settings = processor.normalisation(processor.image_settings(source))
        writing = _as_written(kind, written, tokenizer, token, side, settings)
    else:
        writing = _from_settings(kind, source, tokenizer, token, written)
    into_tower = _accepted(base.get_image_features, writing.further)
    into_model = _accepted(base.forward, writing.further)
    marks = [name for name in MARKS if name in inspect.signature(base.forward).parameters]

    def pixels(pictures: Tensor, config: Any) -> dict[str, Tensor]:
        shape = writing.shape or pictures.shape[1:]
        given = {"pixel_values": pictures.reshape(len(pictures), *shape)}
        return given | _repeated(into_tower, len(pictures), pictures.device)

    def inputs(rows: Rows, config: Any) -> dict[str, Tensor]:
        given = {name: rows.is_image.long() for name in marks}
        return given | _repeated(into_model, len(rows.ids), rows.ids.device)

    def no_tiny(tokens: Mapping[str, int]) -> Any:
        raise UserError(f"{kind!r} has no tiny preset.")

    named = [*base.named_children(), *base.named_parameters(recurse=False)]
    others = tuple(
        name
        for name, part in named
        if name not in (vision, language)
        and (isinstance(part, Tensor) or any(True for _ in part.parameters()))
    )
    family = Family(
        name=f"auto:{kind}",
        model_types=(kind,),
        prompt=writing.prompt,
        image_token=token,
        end="",
        mean_std=writing.mean_std,
        side=lambda config: side,
        image_tokens=lambda config: tokens,
        vision=(vision,),
        projector=others,
        language=(language,),
        pixels=pixels,
        inputs=inputs,
        tiny=no_tiny,
        special=(),
        paper="",
        hub={},
    )
    vlm = Vlm(family, base, tokenizer, source.name)
    tokens = _count_tokens(vlm, kind, side)
    _try_forward(vlm, kind)
    if (
        isinstance(written, Written)
        and (own := _run(kind, written.ids, tokenizer, token)[1]) != tokens
    ):
        raise _refused(
            kind, f"Its processor writes {own} image tokens where its vision tower gives {tokens}."
        )
    return family, (
        f"No family describes {kind!r}; it was adapted from what it says of itself:",
        f"  pictures of {side} pixels, {tokens} tokens {token!r}; mean and deviation "
        f"{writing.account[0]}",
        f"  prompt {writing.account[1]}: {writing.prompt!r}",
        f"  image tokens marked by: {', '.join(marks) or 'nothing'}",
    )


def without_unused(vlm: Vlm, called: set[str]) -> tuple[Family, tuple[str, ...]]:
    """The made-up family once more, after a forward has shown which parts have a share in it.

    Args:
        vlm: an introspected VLM with its weights.
        called: what `rehearse` returned.

    Returns:
        The family without a picture generator or the like in its projector, and lines for people.
    """
    family = vlm.family
    modules = {name for name, _ in vlm.base.named_children()}
    unused = tuple(part for part in family.projector if part in modules - called)
    projector = tuple(part for part in family.projector if part not in unused)
    return dataclasses.replace(family, projector=projector, unused=unused), (
        f"  vision tower {', '.join(family.vision)}; projector {', '.join(projector) or 'none'}; "
        f"language model {', '.join(family.language)}; "
        f"never used: {', '.join(unused) or 'nothing'}",
        "Run `vlm4vla probe` on it before trusting it.",
    )


def _refused(
    kind: str, why: str, fix: str = "Describe it in a file of vlm4vla/model/families."
) -> UserError:
    return UserError(f"No family describes {kind!r} and it cannot be adapted by itself. {why}", fix)


def _parts(kind: str, config: Any, base: Any) -> tuple[str, str]:
    """Names of the vision tower and the language model."""
    children = ", ".join(name for name, _ in base.named_children())
    if not hasattr(base, "get_image_features"):
        if getattr(config, "vision_config", None) is None:
            raise _refused(
                kind,
                "Its config has no vision_config: it reads words only, or sees in its own way.",
                "Name a VLM; `vlm4vla backbones` lists some.",
            )
        raise _refused(
            kind,
            "It gives no picture features that could stand among the words "
            "(`get_image_features`); its pictures enter in another way.",
        )
    vision = next((name for name in VISION if hasattr(base, name)), None)
    language = next((name for name in LANGUAGE if hasattr(base, name)), None)
    if vision is None:
        raise _refused(kind, f"None of its parts ({children}) is known as a vision tower.")
    if language is None:
        raise _refused(kind, f"None of its parts ({children}) is known as a language model.")
    return vision, language


def _side(kind: str, config: Any) -> int:
    vision = getattr(config, "vision_config", None)
    size = getattr(vision, "image_size", None)
    if isinstance(size, (list, tuple)) and len({*size}) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise _refused(
            kind,
            "Its pictures have no fixed square size (`vision_config.image_size` is "
            f"{size}), and how it cuts them is its processor's own affair.",
        )
    return size


def _image_token(kind: str, config: Any, tokenizer: Tokenizer) -> str:
    for name in ("image_token_id", "image_token_index"):
        number = getattr(config, name, None)
        if number is not None:
            if (token := tokenizer.id_to_token(int(number))) is None:
                raise _refused(kind, f"Its tokenizer has no token {number}, its `{name}`.")
            return token
    raise _refused(kind, "Its config names no token that stands for a picture (`image_token_id`).")


def _accepted(function: Any, further: Mapping[str, Tensor]) -> dict[str, Tensor]:
    known = inspect.signature(function).parameters
    return {name: value for name, value in further.items() if name in known and name not in MARKS}


def _repeated(values: Mapping[str, Tensor], count: int, device: torch.device) -> dict[str, Tensor]:
    return {
        name: value.to(device).repeat(count, *[1] * (value.ndim - 1))
        for name, value in values.items()
    }


def _count_tokens(vlm: Vlm, kind: str, side: int) -> int:
    picture = torch.zeros(1, 3, side, side, device="meta", dtype=vlm.base.dtype)
    try:
        return encode(vlm, picture).tokens.shape[1]
    # What a tower raises when it is given too little is its own affair.
    except Exception as error:
        wants = list(inspect.signature(vlm.base.get_image_features).parameters)
        more = [name for name in wants if name not in ("pixel_values", "kwargs", "args")]
        why = "How many tokens a picture becomes cannot be told without its weights."
        if not any(words in str(error) for words in _NO_DATA):
            wish = f"; it may want {', '.join(more)}, too" if more else ""
            why = f"Its vision tower cannot do with a square picture alone{wish}."
        raise _refused(kind, why) from error


def _try_forward(vlm: Vlm, kind: str) -> None:
    """Refuses, before its weights are read, what cannot be called with features and words."""
    try:
        rehearse(vlm)
    # What a stranger's forward raises when it cannot be called like this is its own affair.
    except Exception as error:
        # Numbers that do not exist yet prove nothing; the loaded VLM is tried again.
        if not any(words in str(error) for words in _NO_DATA):
            first = str(error).splitlines()[0].rstrip(".")
            raise _refused(
                kind, f"Its forward does not take picture features and words like this: {first}."
            ) from error


def _run(kind: str, ids: list[int], tokenizer: Tokenizer, token: str) -> tuple[int, int]:
    """Where the run of image tokens begins, and its length."""
    image = tokenizer.token_to_id(token)
    places = [i for i, one in enumerate(ids) if one == image]
    if not places:
        raise _refused(kind, f"Its processor writes no {token!r} for a picture.")
    if places[-1] - places[0] + 1 != len(places):
        raise _refused(kind, "Its processor spreads a picture over several runs of tokens.")
    return places[0], len(places)


def _as_written(
    kind: str,
    written: Written,
    tokenizer: Tokenizer,
    token: str,
    side: int,
    settings: MeanStd | None,
) -> _Writing:
    """From the repository's own processor."""
    start, count = _run(kind, written.ids, tokenizer, token)
    around = [written.ids[:start], written.ids[start + count :]]
    before, after = (tokenizer.decode(ids, skip_special_tokens=False) for ids in around)
    if [token_ids(tokenizer, text) for text in (before, after)] != around:
        raise _refused(kind, "The words that its processor writes cannot be written as text.")
    if any(words in before + after for words in ("{image}", "{text}", "{'type': ")):
        raise _refused(
            kind, "Its chat template writes the parts of a message as data, or braces of its own."
        )
    if after.count(SENTENCE) != 1:
        raise _refused(kind, "Its chat template does not put the sentence after the picture.")
    shape = tuple(written.pixels.shape[1:])
    if written.pixels.shape[0] != 1 or written.pixels.numel() != 3 * side * side:
        found = tuple(written.pixels.shape)
        raise _refused(
            kind,
            f"Its processor makes {found} of a picture, and its vision tower takes one of {side} "
            "pixels.",
        )
    seen = written.pixels.reshape(3, -1)
    if not (seen.isfinite().all() and written.black.isfinite().all()):
        raise _refused(
            kind, "Its processor makes numbers of a picture that are not finite.", _SETTINGS
        )
    if (seen - seen[:, :1]).abs().max() > 1e-3:
        raise _refused(kind, "Its processor adds something to a plain picture.")
    return _Writing(
        before + "{image}" + after.replace(SENTENCE, "{text}"),
        _normalisation(kind, seen[:, 0], written.black, settings),
        shape,
        written.further,
        ("as its processor applies them", "as its processor writes it"),
    )


def _normalisation(kind: str, seen: Tensor, black: Tensor, settings: MeanStd | None) -> MeanStd:
    """Mean and deviation from what became of `COLOUR` and black; the settings' if they agree."""
    colour = torch.tensor(processor.COLOUR) / 255
    if (seen == black).any():
        raise _refused(kind, "Its processor makes the same of every picture.")
    if settings:
        mean, std = (torch.tensor(value) for value in settings)
        if torch.allclose((colour - mean) / std, seen, atol=1e-4):
            return settings
    deviation = colour / (seen - black)
    return tuple((-black * deviation).tolist()), tuple(deviation.tolist())


def _from_settings(
    kind: str, source: Source, tokenizer: Tokenizer, token: str, why: str | None
) -> _Writing:
    """From settings, chat template and tokenizer, where there is no usable processor."""
    settings = processor.image_settings(source)
    found = processor.normalisation(settings)
    if settings.get("do_flip_channel_order"):
        raise _refused(kind, "Its picture settings turn the colours round.")
    if found is None and settings:
        raise _refused(kind, "Its picture settings name no image_mean and image_std.")
    prompt, told = _prompt(source, tokenizer, token)
    first, last = processor.added_around(tokenizer)
    before, after = (tokenizer.decode(ids, skip_special_tokens=False) for ids in (first, last))
    if not prompt.startswith(before):
        prompt = before + prompt
    note = f" (its processor cannot be used here: {why})" if why else ""
    return _Writing(
        prompt + after,
        found or HALF,
        None,
        {},
        (("as shipped" if found else "0.5, for none are shipped") + note, told),
    )


def _prompt(source: Source, tokenizer: Tokenizer, token: str) -> tuple[str, str]:
    template = processor.chat_template(source)
    if template is None:
        return PLAIN, "without a chat template"
    speaker = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=processor.on_one_day(template),
        **processor.special_tokens(source),
    )
    content = [{"type": "image"}, {"type": "text", "text": "{text}"}]
    talk: Any = [{"role": "user", "content": content}]
    try:
        written = str(speaker.apply_chat_template(talk, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # a template may do whatever an expression of Python does
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"The chat template of {source.name} fails over one picture and one sentence: {first}.",
            "Mend it, or remove it for a plain prompt.",
        ) from error
    if written.count(token) != 1 or written.count("{text}") != 1:
        return PLAIN, "without the chat template, which has no place for one picture"
    return written.replace(token, "{image}"), "from the chat template"
