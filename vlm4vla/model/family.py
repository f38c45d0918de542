"""What a family of VLMs must declare so that the core can adapt it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

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


def _pixel_values(pixels: Tensor, config: PretrainedConfig) -> dict[str, Tensor]:
    return {"pixel_values": pixels}


def _nothing(rows: Rows, config: PretrainedConfig) -> dict[str, Tensor]:
    return {}


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything the core needs to know of one family of VLMs.

    Attributes:
        name: as the user types it.
        model_type: `config.model_type` of its transformers class.
        prompt: the whole input with `{image}` where the image tokens go and `{text}` where the
            user's sentence goes (paper section "Prompts").
        question: how an instruction becomes that sentence.
        image_token: the token that is repeated in the image's place.
        end: the token that ends an answer.
        mean_std: normalisation of pixels in 0..1, by channel.
        side: config -> side of the square picture the vision tower gets, in pixels.
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
        merger: module paths inside `vision` that act as the projector, for display.
    """

    name: str
    model_type: str
    prompt: str
    image_token: str
    end: str
    mean_std: tuple[tuple[float, ...], tuple[float, ...]]
    side: Callable[[Any], int]
    image_tokens: Callable[[Any], int]
    vision: tuple[str, ...]
    projector: tuple[str, ...]
    language: tuple[str, ...]
    tiny: Callable[..., PretrainedConfig]
    special: tuple[str, ...]
    paper: str
    hub: Mapping[str, float]
    question: str = QUESTION
    merger: tuple[str, ...] = ()
    pixels: Callable[[Tensor, Any], dict[str, Tensor]] = _pixel_values
    inputs: Callable[[Rows, Any], dict[str, Tensor]] = _nothing

    def text(self, instruction: str) -> str:
        """The user's sentence for an instruction."""
        return self.question.format(instruction=instruction)

    def around_image(self) -> tuple[str, str]:
        """The prompt before and after the image tokens."""
        before, after = self.prompt.split("{image}")
        return before, after


FAMILIES: Registry[Family] = Registry("family")


def family_of(model_type: str, families: Iterable[str] = FAMILIES) -> Family | None:
    """The family whose transformers class is `model_type`, or None."""
    for name in families:
        if FAMILIES.get(name).model_type == model_type:
            return FAMILIES.get(name)
    return None


def patches(pixels: Tensor, patch: int, merge: int, temporal: int) -> Tensor:
    """Cuts pictures into the flat patches that the Qwen vision towers take.

    Args:
        pixels: (B, 3, S, S) with S divisible by patch * merge.
        patch: side of a patch in pixels.
        merge: patches that are later merged into one token stand next to each other.
        temporal: how often a still picture is repeated in time.

    Returns:
        (B * (S / patch)^2, 3 * temporal * patch * patch).
    """
    batch, channels, side, _ = pixels.shape
    blocks = side // (patch * merge)
    cut = pixels.view(batch, channels, blocks, merge, patch, blocks, merge, patch)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    cut = cut.expand(*cut.shape[:6], temporal, *cut.shape[7:])
    return cut.reshape(-1, channels * temporal * patch * patch)


def grid(count: int, side: int, device: torch.device) -> Tensor:
    """`image_grid_thw` (count, 3) of square pictures of `side` patches."""
    return torch.tensor([[1, side, side]], device=device).repeat(count, 1)
