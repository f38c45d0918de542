"""Where names stand in sentences, and what they learn there: the place of their thing.

Halfway through the language model, the last token of every name ("cube" in "the red cube") learns
the location tokens of the thing that it names. That is the binding of a word to an object, taught
at the word itself; whatever comes later in the sequence only has to copy it. The prompt of a policy
speaks of "the robotic arm": the first of these words learns where the finger tips are in the
picture, the second the point of the table below them. Both together tell how high they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from vlm4vla.language.vocabulary import words_for
from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, ROBOT, SHAPES, colour_of, kind_of
from vlm4vla.train.auxiliary.patch_words import location_ids, word_tokens, word_vectors
from vlm4vla.train.loop.ranks import mean_over_ranks
from vlm4vla.train.mimetic_init import word_sharpness
from vlm4vla.train.speed.prefix_cache import Asked, query_of, row_states

_SHARPNESS: Final = 0.25
"""Factor of the scores: states of fixed length against embeddings that lie far apart."""

TIPS: Final = "tips"
"""What the finger tips are called beside `ROBOT`, which stands for the point below them."""

Cells = Mapping[str, tuple[int, int]]
"""The cell across and down of each thing, by name."""


@dataclass(frozen=True)
class Nouns:
    """N names found in rows, int64 (N,) each: arrays, later tensors.

    Attributes:
        rows: the row.
        columns: the column of the name's last token.
        across: the cell of the thing.
        down: likewise.
    """

    rows: Any
    columns: Any
    across: Any
    down: Any


class NounPositionLoss:
    """Teaches names their places.

    Args:
        vlm: a VLM with location tokens.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens.
    """

    def __init__(self, vlm: Vlm) -> None:
        self.vlm = vlm
        colours, kinds = tuple(COLOURS), (*SHAPES, *FIXTURES)
        tokenizer = vlm.tokenizer
        self._colours = _said(tokenizer, colours)
        self._kinds = _said(tokenizer, kinds)
        if ROBOT in vlm.family.question:
            first, last = word_tokens(tokenizer, (colour_of(ROBOT), kind_of(ROBOT)))
            self._colours[first], self._kinds[last] = colour_of(ROBOT), kind_of(ROBOT)
        self._across, self._down = location_ids(vlm)
        layers = text_layers(vlm.base.get_submodule(vlm.family.language[0]))
        self._middle = layers[len(layers) // 2 - 1]
        self._sharpness = word_sharpness(vlm.family.name, _SHARPNESS)
        self._states: Tensor | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keeps the middle layer's output of the last forward pass inside."""

        def keep(module: Any, args: Any, output: Any) -> None:
            self._states = output if isinstance(output, Tensor) else output[0]

        handle = self._middle.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def find(self, rows: Rows, cells: Sequence[Cells]) -> Nouns:
        """The names in the prompts of rows.

        Args:
            rows: R rows.
            cells: what can be named in each row; other names are passed over.
        """
        ids = rows.ids.numpy()
        first = np.isin(ids[:, :-1], list(self._colours))
        last = np.isin(ids[:, 1:], list(self._kinds)) & ~rows.is_answer.numpy()[:, 1:]
        found: list[tuple[int, int, int, int]] = []
        for row, column in np.argwhere(first & last).tolist():
            colour, kind = ids[row, column], ids[row, column + 1]
            name = f"{self._colours[int(colour)]} {self._kinds[int(kind)]}"
            cell = cells[row].get(name)
            if cell is None:
                continue
            found.append((row, column + 1, *cell))
            if name == ROBOT:
                found.append((row, column, *cells[row][TIPS]))
        return Nouns(*np.array(found, np.int64).reshape(-1, 4).T.copy())

    def __call__(self, nouns: Nouns, column: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross entropy of both places, and the share of names right to a cell on both axes.

        Only after a forward pass inside `listening`.

        Args:
            nouns: the names, as tensors.
            column: of the rows that the pass's first state belongs to.
        """
        assert self._states is not None
        states = self._states[nouns.rows, nouns.columns - column].float()
        self._states = None
        states = F.rms_norm(states, states.shape[-1:]) * self._sharpness
        count = torch.tensor(float(len(states)), device=states.device)
        loss = states.new_zeros(())
        near = torch.ones_like(nouns.rows, dtype=torch.bool)
        for ids, cells in ((self._across, nouns.across), (self._down, nouns.down)):
            scores = states @ word_vectors(self.vlm, ids).float().T
            loss = loss + mean_over_ranks(F.cross_entropy(scores, cells, reduction="sum"), count)
            near &= (scores.argmax(-1) - cells).abs() <= 1
        return loss, {"names": mean_over_ranks(near.sum(), count)}


def _said(tokenizer: Tokenizer, names: Sequence[str]) -> dict[int, str]:
    """The names that tokens stand for, by any word that training may say and that is one token."""
    found = dict(zip(word_tokens(tokenizer, names), names, strict=True))
    for name in names:
        for word in words_for(name):
            ids = tokenizer.encode(f" {word.text}", add_special_tokens=False).ids
            if len(ids) == 1 and not word.held_out:
                found.setdefault(int(ids[0]), name)
    return found


def text_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of a language model; of its encoder, where the prompt goes, if it has one."""
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.split(".")[-1] == "layers"
    ]
    return found[0]


def query_state_and_nouns(
    policy: Policy,
    features: Features,
    asked: Asked,
    names: NounPositionLoss | None,
    nouns: Nouns | None,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The query's last hidden state (R, D), float32, and the loss and metrics of the names.

    Args:
        policy: the policy.
        features: of B pictures.
        asked: R rows that end with the query.
        names: teaches names; None to leave them out, with a loss of 0.
        nouns: the names in the rows.
    """
    with names.listening() if names else nullcontext():
        states, column = row_states(policy, features, asked)
    loss = states.new_zeros(())
    metrics: dict[str, Tensor] = {}
    if names and nouns is not None:
        loss, metrics = names(nouns, column)
    return query_of(policy, states, asked, column), loss, metrics
