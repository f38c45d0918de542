"""What a family of VLMs must declare so that the core can adapt it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig

from vlm4vla.language.normal import normalise
from vlm4vla.registry import Registry

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

QUESTION = "What action should the robotic arm take to {instruction}"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Token sequences, right-padded to a common length L.

    Every row is: text, the run of image tokens, text, then either the action query or an answer.

    Attributes:
        ids: (R, L) token ids; `QUERY_ID` at the query, 0 in the padding.
        attention: (R, L) 1 for a token, 0 for padding.
        is_image: (R, L) bool, the run of image tokens; the same columns in every row.
        last: (R,) the column of each row's last token: the query's, where there is one.
        is_answer: (R, L) bool, the tokens that a language model learns to write.
    """

    ids: Tensor
    attention: Tensor
    is_image: Tensor
    last: Tensor
    is_answer: Tensor

    @property
    def is_query(self) -> Tensor:
        """(R, L) bool, where the action query stands."""
        return self.ids == QUERY_ID


QUERY_ID = -1
"""The action query's token id. No vocabulary has it, so it can collide with no word."""


def _image_size(config: Any) -> int:
    size = config.vision_config.image_size
    return int(size if isinstance(size, int) else size[0])


def _pixel_values(pixels: Tensor, config: Any) -> dict[str, Tensor]:
    return {"pixel_values": pixels}


def _nothing(rows: Rows, config: Any) -> dict[str, Tensor]:
    return {}


def _every_token(config: Any) -> slice | None:
    return slice(None)


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything the core needs to know of one family of VLMs.

    Attributes:
        name: as the user types it.
        model_types: `config.model_type` of its transformers classes.
        prompt: the whole input with `{image}` where the image tokens go and `{text}` where the
            user's sentence goes (paper section "Prompts").
        question: how an instruction becomes that sentence.
        side: config -> side of the square picture that the vision tower gets, in pixels.
        image_token: the token that is repeated in the image's place.
        end: the token that ends an answer.
        mean_std: normalisation of pixels in 0..1, by channel.
        image_tokens: config -> how many tokens a picture takes.
        vision: module paths of the vision encoder, as it freezes in the paper's ablation.
        projector: module paths of what maps picture features to words, if it lies outside.
        language: module paths of the language model (its word embeddings are their own group).
        pixels: (B, 3, side, side) and config -> keyword arguments of `get_image_features`.
        inputs: rows and config -> further keyword arguments of the model's forward.
        tiny: keyword arguments -> a small config; takes at least `tokens`, name to id.
        special: the special tokens of a tiny tokenizer; the first is the padding.
        paper: the Hub id that the preset `NAME:paper` stands for.
        hub: known Hub ids with their size in billions of parameters.
        text_type: `config.text_config.model_type`, where two families share a class.
        merger: module paths inside `vision` that act as the projector, for display.
        grid: config -> which image tokens lie on a square grid over the picture, row by row from
            the top left; None where a token belongs to no place.
        patches: where it does not, path of the module whose output (B, ..., D) ends with one state
            a patch, row by row, as wide as a word embedding.
        causal: text attends backwards only and the model takes keys and values of what stood
            before, so that rows with one picture can share its beginning.
        differs: what is written otherwise than the shipped processor writes it, on purpose: any
            of "tokens", "pixels", "arguments", with the reason.
        unused: module paths that have no part in reading a picture and words, as the picture
            generator of Janus; they are kept and never learn.
    """

    name: str
    model_types: tuple[str, ...]
    prompt: str
    image_token: str
    end: str
    mean_std: tuple[tuple[float, ...], tuple[float, ...]]
    image_tokens: Callable[[Any], int]
    vision: tuple[str, ...]
    projector: tuple[str, ...]
    language: tuple[str, ...]
    tiny: Callable[..., PretrainedConfig]
    special: tuple[str, ...]
    paper: str
    hub: Mapping[str, float]
    question: str = QUESTION
    side: Callable[[Any], int] = _image_size
    text_type: str | None = None
    merger: tuple[str, ...] = ()
    differs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()
    pixels: Callable[[Tensor, Any], dict[str, Tensor]] = _pixel_values
    inputs: Callable[[Rows, Any], dict[str, Tensor]] = _nothing
    grid: Callable[[Any], slice | None] = _every_token
    patches: str = ""
    causal: bool = False

    def text(self, instruction: str) -> str:
        """The user's sentence for an instruction, which is normalised first.

        Every instruction takes this way, in training and in use, so that it means the same however
        it was typed.
        """
        return self.question.format(instruction=normalise(instruction))

    def around_image(self) -> tuple[str, str]:
        """The prompt before and after the image tokens."""
        before, after = self.prompt.split("{image}")
        return before, after


FAMILIES: Registry[Family] = Registry("family")


def register(family: Family) -> Family:
    """Makes a family known by its name."""
    return FAMILIES.add(family.name, family)


def family_of(config: Any) -> Family | None:
    """The registered family that a transformers config belongs to, or None."""
    text = getattr(getattr(config, "text_config", None), "model_type", None)
    for family in map(FAMILIES.get, FAMILIES):
        if config.model_type in family.model_types and family.text_type in (None, text):
            return family
    return None
