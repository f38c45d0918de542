"""The stage "language": a VLM learns to see and to speak from pictures without a robot.

First every patch learns its words, then questions are answered by next-token prediction, with the
words of patches and the places of names kept beside it. The result stands for "the pretrained VLM"
in every study.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.model.family import FAMILIES, Rows
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import train_tokenizer
from vlm4vla.model.vlm import Vlm, random_weights
from vlm4vla.suites.tabletop.vocabulary import ROBOT
from vlm4vla.train.auxiliary.noun_positions import Cells, NounPositionLoss, Nouns
from vlm4vla.train.auxiliary.patch_words import (
    PatchWordLoss,
    PatchWords,
    label_patches,
    word_vectors,
)
from vlm4vla.train.batches.pictures import ImageStore, Pool, mirrored
from vlm4vla.train.batches.transfer import to_arrays
from vlm4vla.train.loop.ranks import mean_over_ranks
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.mimetic_init import start_as_pretrained, word_sharpness
from vlm4vla.train.provenance import lineage
from vlm4vla.train.speed.prefix_cache import Asked, ask_rows, row_states
from vlm4vla.train.synthetic.questions import LOCATIONS, Question, ask_several, cell_of, corpus

_SHARPNESS: Final = 0.15
"""Factor of the word scores in the loss. Words lie so far apart that at 1 the loss begins near 80;
but states have a fixed length, and much below this they could not even say "one of 32 places"."""

_LENGTHY_EVERY: Final = 4
"""One batch in so many holds instructions and captions, the others brief questions."""

_VOCABULARY: Final = 2048

_ALIKE: Final = {
    "width": 160,
    "layers": 4,
    "heads": 5,
    "vision_layers": 6,
    "ratio": 4,
}

SIZES: Final[Mapping[str, Mapping[str, int]]] = {
    "qwen3-vl": {
        "patch": 16,
        "merge": 1,
        "vision_layers": 6,
        "vision_width": 160,
        "language_layers": 4,
        "language_width": 160,
        "heads": 5,
        "rope_theta": 5_000_000,
    },
    "internvl": {**_ALIKE, "patch": 8, "rope_theta": 5_000_000},
    "paligemma": {**_ALIKE, "patch": 16, "rope_theta": 5_000_000},
    "kosmos-2": {**_ALIKE, "patch": 16, "latents": 64},
}
"""Of the tiny VLMs, all with 64 image tokens; other families take their own tiny sizes
(`docs/training.md` says what else was tried)."""


@dataclass(frozen=True)
class LanguageRecipe:
    """What the language stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        family: of the VLM.
        pictures: how many pictures are drawn for training.
        questions: questions a picture in a batch.
        alignment_steps: steps at the start with the patch words alone.
        alignment: weight of the patch words afterwards.
        names: weight of the places of names.
    """

    loop: Recipe
    family: str = "qwen3-vl"
    pictures: int = 32_000
    questions: int = 3
    alignment_steps: int = 3_000
    alignment: float = 0.5
    names: float = 0.5


def make_backbone(family: str = "qwen3-vl", seed: int = 0, **sizes: int) -> Vlm:
    """A tiny random VLM whose tokenizer knows our words, with location tokens.

    Args:
        family: a registered name.
        seed: of the weights.
        **sizes: passed to the family's tiny config, over `SIZES`.
    """
    chosen = FAMILIES.get(family)
    tokenizer = train_tokenizer(
        _sentences(), chosen.special, chosen.prompt + " " + chosen.question, _VOCABULARY
    )
    tokenizer.add_special_tokens(list(LOCATIONS))
    config = chosen.tiny(tokenizer.get_vocab(), **{**SIZES.get(family, {}), **sizes})
    vlm = Vlm(chosen, random_weights(config, seed), tokenizer, f"{family}:tiny")
    start_as_pretrained(vlm, seed)
    return vlm


@functools.cache
def _sentences() -> tuple[str, ...]:
    """The corpus, which takes longer to write than a tokenizer to learn."""
    # Drawings show no robot, and some families' questions do not name it, but its frames do.
    return (*corpus(), *[f" {ROBOT}"] * 8)


@dataclass(frozen=True)
class Answers:
    """N tokens to be written, int64 (N,) each: arrays, later tensors.

    Attributes:
        rows: the row of each.
        columns: of the state that predicts it.
        ids: the tokens.
    """

    rows: Any
    columns: Any
    ids: Any


def answers_in(rows: Rows, decoder: bool) -> Answers:
    """The answers' tokens in rows on the CPU.

    Args:
        rows: rows that end with answers.
        decoder: whether a decoder writes them, whose columns begin with the answer.
    """
    row, column = rows.is_answer.nonzero(as_tuple=True)
    before = rows.is_answer.int().cumsum(1)[row, column] - 1 if decoder else column - 1
    return Answers(row, before, rows.ids[row, column])


def word_scores(
    vlm: Vlm, states: Tensor, column: int, answers: Answers, sharpness: float
) -> Tensor:
    """Scores (N, V), float32, of all words where an answer's N tokens are written.

    Args:
        vlm: whose words.
        states: (R, L, D), from a column on.
        column: where they begin.
        answers: the tokens.
        sharpness: factor of the scores, see `sharpness_of`.
    """
    writing = states[answers.rows, answers.columns - column]
    scores: Tensor = writing @ word_vectors(vlm).T.to(writing.dtype) * sharpness
    return scores.float()


def answer_loss(scores: Tensor, answers: Answers) -> Tensor:
    """Cross entropy of written tokens, the mean over those of all ranks."""
    return mean_over_ranks(
        F.cross_entropy(scores, answers.ids, reduction="sum"),
        torch.tensor(float(len(answers.ids)), device=scores.device),
    )


def sharpness_of(vlm: Vlm) -> float:
    """Factor of a VLM's word scores: what the language stage wrote with, 1 for released VLMs."""
    ours = any(entry.get("stage") == "language" for entry in lineage(vlm))
    return word_sharpness(vlm.family.name, _SHARPNESS) if ours else 1.0


@dataclass(frozen=True)
class Drawn:
    """B pictures and R questions about them.

    Attributes:
        numbers: (B,) in the pool.
        mirrored: (B,) left and right exchanged.
        words: what the places of each show.
        cells: where the things of each are.
        questions: R questions, none while only patches are learned.
        image_index: (R,) the picture of each question.
    """

    numbers: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    words: PatchWords
    cells: Sequence[Cells]
    questions: Sequence[Question]
    image_index: NDArray[np.int64]


@dataclass(frozen=True)
class LanguageBatch:
    """B pictures with their patch words, and rows about them: arrays, later tensors.

    Attributes:
        pictures: int64 (B,) numbers in the pool.
        mirrored: bool (B,), left and right exchanged.
        patches: what they show.
        asked: questions with their answers; None while only patches are learned, as is the rest.
        answers: the tokens to be written.
        nouns: the names in the questions.
    """

    pictures: Any
    mirrored: Any
    patches: PatchWords
    asked: Asked | None = None
    answers: Answers | None = None
    nouns: Nouns | None = None


class _Module(nn.Module):
    """The policy's VLM under the language stage's loss."""

    def __init__(self, policy: Policy, images: ImageStore, recipe: LanguageRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.images = images
        self.recipe = recipe
        self.words = PatchWordLoss(policy.vlm)
        self.names = NounPositionLoss(policy.vlm)
        self.sharpness = word_sharpness(policy.vlm.family.name, _SHARPNESS)

    def forward(self, batch: LanguageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        policy = self.policy
        images = self.images.take(batch.pictures)
        images = torch.where(batch.mirrored[:, None, None, None], images.flip(2), images)
        with self.words.watching():
            features = policy.encode(images)
        patches, metrics = self.words(features.tokens, batch.patches)
        if batch.asked is None or batch.answers is None or batch.nouns is None:
            return patches, metrics
        with self.names.listening():
            states, column = row_states(policy, features, batch.asked)
        names, bound = self.names(batch.nouns, column)
        logits = word_scores(policy.vlm, states, column, batch.answers, self.sharpness)
        written = answer_loss(logits, batch.answers)
        loss = written + self.recipe.alignment * patches + self.recipe.names * names
        return loss, metrics | bound | {"answers": written.detach()}


class LanguageObjective:
    """Batches and loss of the language stage; an `Objective` of the loop.

    Args:
        policy: the policy whose VLM learns; its query and head take no part.
        pool: the pictures.
        recipe: the stage's recipe.

    Raises:
        UserError: nothing in the VLM belongs to a place of the picture, or its tokenizer lacks a
            word.
    """

    def __init__(self, policy: Policy, pool: Pool, recipe: LanguageRecipe) -> None:
        self.vlm = policy.vlm
        self.pool = pool
        self.recipe = recipe
        self._module = _Module(policy, ImageStore(pool.images), recipe)
        self.module: nn.Module = self._module
        self.query: str | None = None
        for parameter in (policy.query, *policy.head.parameters()):
            parameter.requires_grad_(False)

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> LanguageBatch:
        """The batch of an index: every picture once an epoch, in another order each time."""
        drawn = self.draw(index, rank, ranks)
        seen = LanguageBatch(drawn.numbers, drawn.mirrored, drawn.words)
        if not drawn.questions:
            return seen
        asked = ask_rows(
            self.vlm,
            [question.text for question in drawn.questions],
            [question.answer for question in drawn.questions],
            drawn.image_index,
        )
        cells = [drawn.cells[i] for i in drawn.image_index]
        nouns = self._module.names.find(asked.rows, cells)
        answers = answers_in(asked.rows, self.vlm.base.config.is_encoder_decoder)
        return to_arrays(replace(seen, asked=asked, answers=answers, nouns=nouns))

    def draw(self, index: int, rank: int = 0, ranks: int = 1) -> Drawn:
        """What is shown and asked in a batch, before it is put in a family's tokens."""
        recipe, seed = self.recipe, self.recipe.loop.seed
        numbers = epoch_order(len(self.pool), recipe.loop.batch, index, seed)[rank::ranks]
        places = range(rank, recipe.loop.batch, ranks)[: len(numbers)]
        draws = [np.random.default_rng([seed, index, 1, place]) for place in places]
        flipped = [rng.random() < 0.5 for rng in draws]
        pictures = [
            mirrored(self.pool[i]) if flip else self.pool[i]
            for i, flip in zip(numbers, flipped, strict=True)
        ]
        words = label_patches(
            np.stack([picture.segmentation for picture in pictures]),
            [picture.items for picture in pictures],
            self._module.words.side,
        )
        asking = index >= recipe.alignment_steps * recipe.loop.accumulation
        lengthy = index % _LENGTHY_EVERY == 0
        each = recipe.questions if asking else 0
        return Drawn(
            numbers=np.array(numbers),
            mirrored=np.array(flipped),
            words=words,
            cells=[{item.name: cell_of(item) for item in picture.items} for picture in pictures],
            questions=[
                question
                for picture, rng in zip(pictures, draws, strict=True)
                for question in ask_several(picture, each, rng, lengthy=lengthy)
            ],
            image_index=np.arange(len(pictures)).repeat(each),
        )


def epoch_order(count: int, batch: int, index: int, seed: int) -> list[int]:
    """Which of `count` samples the batch of an index holds; a pure function of its arguments.

    Within an epoch no sample comes twice; what does not fill a batch waits for the next epoch.
    """
    batch = min(batch, count)
    epoch, place = divmod(index, count // batch)
    order = np.random.default_rng([seed, epoch, 2]).permutation(count)
    return [int(i) for i in order[place * batch : (place + 1) * batch]]
