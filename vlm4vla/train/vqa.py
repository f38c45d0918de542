"""General skill: how well a VLM answers questions about pictures that it has never seen."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vlm4vla.model.policy import Policy
from vlm4vla.train.batches.pictures import Pool
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.gates import Gate
from vlm4vla.train.loop.precision import autocast
from vlm4vla.train.objectives.language import answers_in
from vlm4vla.train.speed.prefix_cache import ask_rows, row_states
from vlm4vla.train.synthetic.questions import (
    ACROSS,
    DOWN,
    KINDS,
    Question,
    Words,
    ask,
    cell_of,
    every_pointing,
)

_PICTURES_AT_ONCE = 64

_ASKED: Final[dict[str, tuple[str, Words]]] = {
    **{kind: (kind, "paraphrases") for kind in KINDS if kind not in ("pointing", "caption")},
    **{
        f"{kind} {words}": (kind, words)
        for kind in ("first", "second")
        for words in ("broad", "held-out")
    },
}
"""What is asked, by the name of its figure: the kind of question, and where its words are from."""


@dataclass(frozen=True)
class Skill:
    """What was measured on held-out pictures.

    Attributes:
        accuracy: share of answers that are right word for word, by kind of question.
        asked: how many questions of each kind that is a share of, of things that were pointed at
            ("pointing_cells") and of those with others beside them ("bound").
        pointing_cells: median distance over every named thing, in cells of 1/32 of the picture,
            the larger of across and down.
        bound: share of the things whose pointed place is nearer to their own centre than to any
            other thing's, over pictures with at least two.
    """

    accuracy: dict[str, float]
    asked: dict[str, int]
    pointing_cells: float
    bound: float

    def metrics(self) -> dict[str, float]:
        """The metrics flat, for a log."""
        return {**self.accuracy, "pointing_cells": self.pointing_cells, "bound": self.bound}

    def gates(self) -> list[Gate]:
        """What the language stage must reach."""
        return [
            Gate("accuracy of naming a colour", self.accuracy["colour"], 0.95),
            Gate("median pointing error in cells", self.pointing_cells, 1.0, at_least=False),
        ]


@torch.inference_mode()
def measure_skill(policy: Policy, pool: Pool, seed: int = 0) -> Skill:
    """Asks one question of each kind about every picture, and points at every thing.

    Instructions in questions are held-out paraphrases of the known ones, broad sentences, and
    sentences with words or combinations that training never holds, each counted apart.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    errors: list[float] = []
    bound: list[bool] = []
    rng = np.random.default_rng([seed, 3])
    for start in range(0, len(pool), _PICTURES_AT_ONCE):
        indices = range(start, min(start + _PICTURES_AT_ONCE, len(pool)))
        asked = [
            (name, i, question)
            for i in indices
            for name, (kind, words) in _ASKED.items()
            if (question := ask(pool[i], kind, rng, words)) is not None
        ]
        images = pool.images[start : indices.stop]
        rows = [i - start for _, i, _ in asked]
        correct = _answered(policy, images, rows, [question for *_, question in asked])
        for (name, *_), is_right in zip(asked, correct, strict=True):
            right[name].append(bool(is_right))
        pointing = [(i, question) for i in indices for question in every_pointing(pool[i])]
        cells = point(
            policy,
            images,
            [i - start for i, _ in pointing],
            [question.text for _, question in pointing],
        )
        place = 0
        for i in indices:
            centres = np.array([cell_of(item) for item in pool.items[i]])
            found = cells[place : place + len(centres)]
            place += len(centres)
            apart = np.abs(found[:, None] - centres[None]).max(-1)
            errors += apart.diagonal().tolist()
            if len(centres) > 1:
                bound += (apart.argmin(1) == np.arange(len(centres))).tolist()
    return Skill(
        accuracy={name: float(np.mean(right[name])) for name in _ASKED if right[name]},
        asked={name: len(right[name]) for name in _ASKED if right[name]}
        | {"pointing_cells": len(errors), "bound": len(bound)},
        pointing_cells=float(np.median(errors)),
        bound=float(np.mean(bound)),
    )


def _answered(
    policy: Policy, images: NDArray[np.uint8], rows: Sequence[int], asked: Sequence[Question]
) -> NDArray[np.bool_]:
    """Whether each answer would be written word for word.

    Each word is the best one after the right words before it, which is the same as writing freely
    and comparing the whole.
    """
    texts, answers = [q.text for q in asked], [q.answer for q in asked]
    held = ask_rows(policy.vlm, texts, answers, np.array(rows))
    wanted = answers_in(held.rows, policy.base.config.is_encoder_decoder)
    there = to_tensors(held, policy.device)
    with autocast(policy.device):
        states, column = row_states(policy, policy.encode(images), there)
        writing = states[wanted.rows, wanted.columns - column]
        right = policy.word_logits(writing).argmax(-1).cpu() == wanted.ids
    correct = torch.ones(len(asked), dtype=torch.bool)
    correct[wanted.rows[~right]] = False
    return correct.numpy()


def point(
    policy: Policy, images: NDArray[np.uint8], rows: Sequence[int], texts: Sequence[str]
) -> NDArray[np.int64]:
    """Lets the VLM write two location tokens.

    Args:
        policy: the policy whose VLM answers.
        images: (B, H, W, 3) uint8 RGB.
        rows: the picture of each text.
        texts: R questions.

    Returns:
        (R, 2) cells across and down, each 0..31.
    """
    tokenizer = policy.vlm.tokenizer
    decoder = policy.base.config.is_encoder_decoder
    written = [""] * len(texts)
    cells = []
    with autocast(policy.device):
        features = policy.encode(images)
        for axis in (ACROSS, DOWN):
            ids = torch.tensor([tokenizer.token_to_id(token) for token in axis])
            held = ask_rows(policy.vlm, texts, written, np.array(rows))
            # The last token closes the answer; what predicts it now predicts the next one then.
            columns = answers_in(held.rows, decoder).columns.reshape(len(texts), -1)[:, -1]
            states, column = row_states(policy, features, to_tensors(held, policy.device))
            here = states[torch.arange(len(states)), columns - column]
            best = policy.word_logits(here)[:, ids.to(policy.device)].argmax(-1).cpu().numpy()
            cells.append(best)
            written = [text + axis[cell] for text, cell in zip(written, best, strict=True)]
    return np.stack(cells, axis=-1)
