"""Patch-to-word alignment: every projected patch learns the words for what it shows and where.

Without this term a small model stays for very long at guessing which object a word means; with it
the plateau breaks within minutes (figures in `docs/training.md`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.model.vlm import Vlm
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, ROBOT, SHAPES, colour_of, kind_of
from vlm4vla.train.synthetic.drawings import Item
from vlm4vla.train.synthetic.questions import ACROSS, CELLS, LOCATIONS, NOTHING, cell_of

COLOUR_WORDS: Final = (*COLOURS, colour_of(ROBOT), NOTHING)
KIND_WORDS: Final = (*SHAPES, *FIXTURES, kind_of(ROBOT), NOTHING)
"""The robot's words stand for its hand; drawings show none."""

IGNORED: Final = -100
"""The label of a patch that shows too little of a thing to be told, and too much to be empty."""

_MINE, _EMPTY = 0.18, 0.04
"""A patch is a thing's from the first share of its area on, and nothing's up to the second."""

_NOTHING_WEIGHT: Final = 0.1


@dataclass(frozen=True)
class PatchWords:
    """Labels of image tokens, each int64 (B, T), tokens row by row from the top left.

    Attributes:
        colours: indices into `COLOUR_WORDS`, or `IGNORED`.
        kinds: indices into `KIND_WORDS`, or `IGNORED`.
        across: the cell of the thing's centre, or of the token's own where there is no thing.
        down: likewise.
    """

    colours: NDArray[np.int64]
    kinds: NDArray[np.int64]
    across: NDArray[np.int64]
    down: NDArray[np.int64]

    @property
    def shows(self) -> NDArray[np.bool_]:
        """(B, T), the tokens that show a thing."""
        return (self.colours != IGNORED) & (self.colours != len(COLOUR_WORDS) - 1)


def patch_words(
    segmentations: NDArray[np.integer], items: Sequence[Sequence[Item]], side: int
) -> PatchWords:
    """Labels the image tokens of B pictures.

    Args:
        segmentations: (B, S, S), the index of the thing that a pixel shows, below 0 for none.
        items: for each picture what its indices stand for.
        side: image tokens along a side; divides S.
    """
    batch, pixels = segmentations.shape[:2]
    cell = pixels // side
    cut = segmentations.reshape(batch, side, cell, side, cell)
    most = max(map(len, items))
    shares = np.stack([(cut == i).mean((2, 4), dtype=np.float32) for i in range(most)], axis=-1)
    owner = shares.argmax(-1).reshape(batch, -1)
    share = shares.max(-1).reshape(batch, -1)
    colours = np.full(owner.shape, IGNORED, np.int64)
    kinds = np.full(owner.shape, IGNORED, np.int64)
    own = (np.arange(side) + 0.5) * CELLS / side
    across = np.tile(own.astype(np.int64), (batch, side))
    down = np.tile(own.astype(np.int64).repeat(side), (batch, 1))
    for row, things in enumerate(items):
        words = np.array(
            [
                (
                    COLOUR_WORDS.index(colour_of(item.name)),
                    KIND_WORDS.index(kind_of(item.name)),
                    *cell_of(item),
                )
                for item in things
            ]
        )
        mine = share[row] >= _MINE
        for labels, column in zip((colours, kinds, across, down), words.T, strict=True):
            labels[row, mine] = column[owner[row, mine]]
    empty = shares.sum(-1).reshape(batch, -1) <= _EMPTY
    colours[empty] = len(COLOUR_WORDS) - 1
    kinds[empty] = len(KIND_WORDS) - 1
    return PatchWords(colours, kinds, across, down)


def word_tokens(tokenizer: Tokenizer, words: Sequence[str]) -> list[int]:
    """The ids of words as they stand inside a sentence.

    Raises:
        UserError: a word is not one token, so that no single embedding stands for it.
    """
    ids = []
    for word in words:
        found = tokenizer.encode(f" {word}", add_special_tokens=False).ids
        if len(found) != 1:
            raise UserError(
                f"The tokenizer splits the word {word!r} into {len(found)} tokens.",
                "Train it on a corpus that holds the word more often.",
            )
        ids.append(int(found[0]))
    return ids


def location_ids(vlm: Vlm) -> tuple[list[int], list[int]]:
    """The ids of a VLM's location tokens, across and down.

    Raises:
        UserError: it has none.
    """
    found = [vlm.tokenizer.token_to_id(token) for token in LOCATIONS]
    places = [place for place in found if place is not None]
    if len(places) < len(LOCATIONS):
        raise UserError(
            f"The tokenizer of {vlm.source} has no location tokens.",
            "Start from a VLM made by `vlm4vla train language`, or give alignment no weight.",
        )
    return places[: len(ACROSS)], places[len(ACROSS) :]


def alignment_loss(tokens: Tensor, embeddings: Tensor, labels: Tensor, shows: Tensor) -> Tensor:
    """Cross entropy of image tokens against the embeddings of words.

    Args:
        tokens: (B, T, D) projected image features.
        embeddings: (W, D) of the words.
        labels: (B, T) indices of words, or `IGNORED`.
        shows: (B, T) bool, the tokens that show a thing; the others weigh a tenth.
    """
    logits = (tokens @ embeddings.T.to(tokens.dtype)).float()
    each = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    weight = torch.where(shows, 1.0, _NOTHING_WEIGHT).flatten() * (labels.flatten() != IGNORED)
    return (each * weight).sum() / weight.sum()


def alignment_accuracy(tokens: Tensor, embeddings: Tensor, labels: Tensor, shows: Tensor) -> Tensor:
    """Share of the tokens that show a thing whose word is the nearest; arguments as above."""
    found = (tokens @ embeddings.T.to(tokens.dtype)).argmax(-1)
    return (found == labels)[shows].float().mean()


@dataclass(frozen=True)
class PatchTargets:
    """`PatchWords` as tensors (B, T): colour, kind, across and down, and which show a thing."""

    words: tuple[Tensor, ...]
    shows: Tensor


def targets_of(labels: PatchWords, device: torch.device) -> PatchTargets:
    """Moves labels to where the model is."""
    words = (labels.colours, labels.kinds, labels.across, labels.down)
    return PatchTargets(
        tuple(torch.from_numpy(word).to(device) for word in words),
        torch.from_numpy(labels.shows).to(device),
    )


class Aligner:
    """The alignment of a VLM's image tokens with its words.

    Args:
        vlm: the VLM.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens.
    """

    def __init__(self, vlm: Vlm) -> None:
        self.vlm = vlm
        across, down = location_ids(vlm)
        self.ids: dict[str, list[int]] = {
            "colour": word_tokens(vlm.tokenizer, COLOUR_WORDS),
            "kind": word_tokens(vlm.tokenizer, KIND_WORDS),
            "across": across,
            "down": down,
        }

    def __call__(self, tokens: Tensor, targets: PatchTargets) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the four losses, and the accuracy of each word.

        Args:
            tokens: (B, T, D) projected image features.
            targets: what they show.
        """
        loss = tokens.new_zeros((), dtype=torch.float32)
        metrics = {}
        for (name, ids), labels in zip(self.ids.items(), targets.words, strict=True):
            words = self.vlm.words[ids]
            loss = loss + alignment_loss(tokens, words, labels, targets.shows)
            with torch.no_grad():
                metrics[name] = alignment_accuracy(tokens, words, labels, targets.shows)
        return loss, metrics
