"""Patch-to-word alignment: every projected patch learns the words for what it shows and where.

Without this term a small model stays for very long at guessing which object a word means; with it
the plateau breaks within minutes (figures in `docs/training.md`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.model.vlm import Vlm
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, ROBOT, SHAPES, colour_of, kind_of
from vlm4vla.train.loop.ranks import mean_over_ranks
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
    """Labels of places, each int8 (B, T), row by row from the top left: arrays, later tensors.

    Attributes:
        colour: indices into `COLOUR_WORDS`, or `IGNORED`.
        kind: indices into `KIND_WORDS`, or `IGNORED`.
        across: the cell of the thing's centre, or of the token's own where there is no thing.
        down: likewise.
    """

    colour: Any
    kind: Any
    across: Any
    down: Any

    @property
    def shows(self) -> Any:
        """(B, T), the tokens that show a thing."""
        return (self.colour != IGNORED) & (self.colour != len(COLOUR_WORDS) - 1)


def label_patches(
    segmentations: NDArray[np.integer], items: Sequence[Sequence[Item]], side: int
) -> PatchWords:
    """Labels the image tokens of B pictures.

    Args:
        segmentations: (B, S, S), the index of the thing that a pixel shows, below 0 for none.
        items: for each picture what its indices stand for.
        side: image tokens along a side; divides S.
    """
    batch, pixels = segmentations.shape[:2]
    cell, kinds_of_pixel = pixels // side, max(map(len, items)) + 1
    line = np.arange(pixels) // cell
    # One count over (picture, cell, thing) is several times faster than one mean a thing.
    token = np.arange(batch)[:, None, None] * side**2 + line[:, None] * side + line
    counts = np.bincount(
        (token * kinds_of_pixel + segmentations + 1).ravel(),
        minlength=batch * side**2 * kinds_of_pixel,
    )
    shares = counts.reshape(batch, side**2, kinds_of_pixel)[..., 1:] / np.float32(cell**2)
    owner, share = shares.argmax(-1), shares.max(-1)
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
    empty = shares.sum(-1) <= _EMPTY
    colours[empty] = len(COLOUR_WORDS) - 1
    kinds[empty] = len(KIND_WORDS) - 1
    return PatchWords(*(w.astype(np.int8) for w in (colours, kinds, across, down)))


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


def word_vectors(vlm: Vlm, ids: Sequence[int] | None = None) -> Tensor:
    """Words (W, D) as they enter the language model; some families scale them on the way in.

    Args:
        vlm: the VLM.
        ids: which words; None for the whole vocabulary.
    """
    words = vlm.words
    chosen = torch.arange(len(words)) if ids is None else torch.tensor(ids)
    found: Tensor = vlm.base.get_input_embeddings()(chosen.to(words.device))
    return found


def alignment_loss(tokens: Tensor, words: Tensor, labels: Tensor, shows: Tensor) -> Tensor:
    """Cross entropy of image tokens against words.

    Args:
        tokens: (B, T, D) projected image features.
        words: (W, D) vectors.
        labels: (B, T) indices of words, or `IGNORED`.
        shows: (B, T) bool, the tokens that show a thing; the others weigh a tenth.
    """
    logits = (tokens @ words.T.to(tokens.dtype)).float()
    each = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    weight = torch.where(shows, 1.0, _NOTHING_WEIGHT).flatten() * (labels.flatten() != IGNORED)
    return mean_over_ranks((each * weight).sum(), weight.sum())


def alignment_accuracy(tokens: Tensor, words: Tensor, labels: Tensor, shows: Tensor) -> Tensor:
    """Share of the tokens that show a thing whose word is the nearest; arguments as above."""
    found = (tokens @ words.T.to(tokens.dtype)).argmax(-1)
    return mean_over_ranks(((found == labels) & shows).sum(), shows.sum())


class PatchWordLoss:
    """Teaches the places of a picture the words for what they show.

    Where image tokens lie on a grid, they learn. Where a token belongs to no place (a resampler's
    latents), the patches that the resampler reads learn in their stead, and besides, if there are
    as many latents as patches, each latent learns the words of the patch of its number: the
    architecture ties no latent to a place, this loss does.

    Args:
        vlm: the VLM.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens, or nothing in it belongs
            to a place of the picture.
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
        self.side = grid_side(vlm)
        self._patches: Tensor | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keeps the states of patches of an encoding inside, where tokens have no places."""
        path = self.vlm.family.patches
        if not path:
            yield
            return

        def keep(module: Any, args: Any, output: Tensor) -> None:
            self._patches = output

        handle = self.vlm.base.get_submodule(path).register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def __call__(self, tokens: Tensor, targets: PatchWords) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the four losses, and the accuracy of each word.

        Args:
            tokens: (B, T, D) projected image features, of an encoding inside `watching`.
            targets: what they show, as tensors.
        """
        loss = tokens.new_zeros((), dtype=torch.float32)
        metrics = {}
        shows = targets.shows
        grids = self._grids(tokens)
        for name, ids in self.ids.items():
            words, labels = word_vectors(self.vlm, ids), getattr(targets, name).long()
            for grid in grids:
                loss = loss + alignment_loss(grid, words, labels, shows) / len(grids)
            with torch.no_grad():
                metrics[name] = alignment_accuracy(grids[-1], words, labels, shows)
        return loss, metrics

    def _grids(self, tokens: Tensor) -> list[Tensor]:
        on_grid = self.vlm.family.grid(self.vlm.base.config)
        if on_grid is not None:
            return [tokens[:, on_grid]]
        assert self._patches is not None
        patches, self._patches = self._patches[:, -(self.side**2) :], None
        return [patches, tokens] if tokens.shape[1] == self.side**2 else [patches]


def grid_side(vlm: Vlm) -> int:
    """Places along a side of the picture that something in the VLM belongs to.

    Raises:
        UserError: there are none, or they are no square.
    """
    family, config = vlm.family, vlm.base.config
    on_grid = family.grid(config)
    if on_grid is not None:
        count = len(range(vlm.image_tokens)[on_grid])
    elif family.patches:
        vision = config.vision_config
        count = (vision.image_size // vision.patch_size) ** 2
    else:
        count = 0
    side = round(count**0.5)
    if not count or side**2 != count:
        raise UserError(
            f"No place of a picture has a state of its own in {vlm.source}.",
            "Give patch words no weight, or choose another family.",
        )
    return side
