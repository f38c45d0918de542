"""Patch-to-word alignment: every projected patch learns the words for what it shows.

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
from vlm4vla.sim.vocabulary import COLOURS, FIXTURES, SHAPES, colour_of, kind_of
from vlm4vla.train.questions import NOTHING

COLOUR_WORDS: Final = (*COLOURS, NOTHING)
KIND_WORDS: Final = (*SHAPES, *FIXTURES, NOTHING)

IGNORED: Final = -100
"""The label of a patch that shows too little of a thing to be told, and too much to be empty."""

_MINE, _EMPTY = 0.18, 0.04
"""A patch is a thing's from the first share of its area on, and nothing's up to the second."""

_NOTHING_WEIGHT: Final = 0.1


@dataclass(frozen=True)
class PatchWords:
    """Labels of image tokens: indices into `COLOUR_WORDS` and `KIND_WORDS`, or `IGNORED`.

    Both are int64 (B, T), tokens row by row from the top left.
    """

    colours: NDArray[np.int64]
    kinds: NDArray[np.int64]


def patch_words(
    segmentations: NDArray[np.integer], names: Sequence[Sequence[str]], side: int
) -> PatchWords:
    """Labels the image tokens of B pictures.

    Args:
        segmentations: (B, S, S), the index of the thing that a pixel shows, below 0 for none.
        names: for each picture what its indices are called, such as "red cube".
        side: image tokens along a side; divides S.
    """
    batch, pixels = segmentations.shape[:2]
    cell = pixels // side
    cut = segmentations.reshape(batch, side, cell, side, cell)
    most = max(map(len, names))
    shares = np.stack([(cut == i).mean((2, 4), dtype=np.float32) for i in range(most)], axis=-1)
    owner = shares.argmax(-1).reshape(batch, -1)
    share = shares.max(-1).reshape(batch, -1)
    colours = np.full(owner.shape, IGNORED, np.int64)
    kinds = np.full(owner.shape, IGNORED, np.int64)
    for row, called in enumerate(names):
        colour_index = np.array([COLOUR_WORDS.index(colour_of(name)) for name in called])
        kind_index = np.array([KIND_WORDS.index(kind_of(name)) for name in called])
        mine = share[row] >= _MINE
        colours[row, mine] = colour_index[owner[row, mine]]
        kinds[row, mine] = kind_index[owner[row, mine]]
    empty = shares.sum(-1).reshape(batch, -1) <= _EMPTY
    colours[empty] = len(COLOUR_WORDS) - 1
    kinds[empty] = len(KIND_WORDS) - 1
    return PatchWords(colours, kinds)


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


def alignment_loss(tokens: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of image tokens against the embeddings of words.

    Args:
        tokens: (B, T, D) projected image features.
        embeddings: (W, D) of the words; the last stands for nothing and weighs a tenth.
        labels: (B, T) indices of words, or `IGNORED`.
    """
    weight = torch.ones(len(embeddings), device=tokens.device)
    weight[-1] = _NOTHING_WEIGHT
    logits = tokens.flatten(0, 1) @ embeddings.T.to(tokens.dtype)
    return F.cross_entropy(logits.float(), labels.flatten(), weight, ignore_index=IGNORED)


def alignment_accuracy(tokens: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Share of the patches with a thing on them whose word is the nearest."""
    found = (tokens @ embeddings.T.to(tokens.dtype)).argmax(-1)
    shown = (labels != IGNORED) & (labels != len(embeddings) - 1)
    return (found == labels)[shown].float().mean()
