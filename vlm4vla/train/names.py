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

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm4vla.model.family import Rows
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, ROBOT, SHAPES, colour_of, kind_of
from vlm4vla.train.alignment import location_ids, word_tokens
from vlm4vla.train.shared import shared_states

_SHARPNESS: Final = 0.25
"""Factor of the scores: states of fixed length against embeddings that lie far apart."""

TIPS: Final = "tips"
"""What the finger tips are called beside `ROBOT`, which stands for the point below them."""

Cells = Mapping[str, tuple[int, int]]
"""The cell across and down of each thing, by name."""


@dataclass(frozen=True)
class Named:
    """N names found in rows: the row, the column of the last token, and the cell of the thing."""

    rows: Tensor
    columns: Tensor
    across: Tensor
    down: Tensor


@dataclass(frozen=True)
class Taught:
    """The loss of the names of a batch, and figures to print."""

    loss: Tensor
    shown: dict[str, Tensor]


class NameLesson:
    """Teaches names their places.

    Args:
        vlm: a VLM with location tokens, whose language model has `layers`.

    Raises:
        UserError: its tokenizer splits a word or has no location tokens.
    """

    def __init__(self, vlm: Vlm) -> None:
        self.vlm = vlm
        colours, kinds = tuple(COLOURS), (*SHAPES, *FIXTURES)
        tokenizer = vlm.tokenizer
        self._colours: dict[int, str] = dict(
            zip(word_tokens(tokenizer, colours), colours, strict=True)
        )
        self._kinds: dict[int, str] = dict(zip(word_tokens(tokenizer, kinds), kinds, strict=True))
        if ROBOT in vlm.family.question:
            first, last = word_tokens(tokenizer, (colour_of(ROBOT), kind_of(ROBOT)))
            self._colours[first], self._kinds[last] = colour_of(ROBOT), kind_of(ROBOT)
        self._across, self._down = location_ids(vlm)
        layers: Any = vlm.base.get_submodule(vlm.family.language[0]).layers
        self._middle = layers[len(layers) // 2 - 1]
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

    def find(self, rows: Rows, column: int, cells: Sequence[Cells]) -> Named:
        """The names in the prompts of rows, from a column on.

        Args:
            rows: R rows.
            column: where to start; columns in the result count from there.
            cells: what can be named in each row; other names are passed over.
        """
        found: list[tuple[int, int, int, int]] = []
        ids = rows.ids[:, column:].tolist()
        written = rows.is_answer[:, column:].tolist()
        for row, tokens in enumerate(ids):
            for place in range(1, len(tokens)):
                name = f"{self._colours.get(tokens[place - 1])} {self._kinds.get(tokens[place])}"
                cell = cells[row].get(name)
                if cell is None or written[row][place]:
                    continue
                found.append((row, place, *cell))
                if name == ROBOT:
                    found.append((row, place - 1, *cells[row][TIPS]))
        columns = torch.tensor(found, dtype=torch.long).reshape(-1, 4).T
        return Named(*columns.to(rows.ids.device))

    def loss(self, named: Named) -> Taught:
        """Cross entropy of both places; shown is the share of names right to a cell on both axes.

        Only after a forward pass inside `listening`.
        """
        assert self._states is not None
        states = self._states[named.rows, named.columns].float()
        self._states = None
        states = F.rms_norm(states, states.shape[-1:]) * _SHARPNESS
        loss = states.new_zeros(())
        near = torch.ones_like(named.rows, dtype=torch.bool)
        for ids, cells in ((self._across, named.across), (self._down, named.down)):
            scores = states @ self.vlm.words[ids].T
            # A batch without any name has nothing to teach.
            loss = loss + F.cross_entropy(scores, cells, reduction="sum") / max(len(cells), 1)
            near &= (scores.argmax(-1) - cells).abs() <= 1
        return Taught(loss, {"names": near.float().mean()})


def query_state_and_names(
    policy: Policy,
    features: Features,
    instructions: Sequence[str],
    image_index: Tensor,
    lesson: NameLesson | None,
    cells: Sequence[Cells] | None,
) -> tuple[Tensor, Taught]:
    """The query's last hidden state (R, D), float32, and what the instructions' names were taught.

    Args:
        policy: the policy.
        features: of B pictures; every picture has at least one row.
        instructions: R instructions.
        image_index: (R,) the picture of each instruction.
        lesson: teaches names; None to leave them out, with a loss of 0.
        cells: what can be named in each row.
    """
    rows = policy.rows([policy.vlm.family.text(sentence) for sentence in instructions])
    with lesson.listening() if lesson else nullcontext():
        states, column = shared_states(policy, features, rows, image_index)
    taught = Taught(states.new_zeros(()), {})
    if lesson and cells is not None:
        taught = lesson.loss(lesson.find(rows, column, cells))
    return states[torch.arange(len(states)), rows.last - column].float(), taught
