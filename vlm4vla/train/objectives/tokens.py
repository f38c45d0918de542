"""The stage "tokens": a VLM answers instructions with the expert's actions as FAST tokens.

The VLM is asked what the policy will be asked, about the same frames, and writes the chunk in words
of its own vocabulary. What control needs is thereby supervised before there is an action head.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm4vla.action import ActionSpec
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import BUILDING, Vlm
from vlm4vla.train.batches.frames import FrameBatch, Frames
from vlm4vla.train.batches.pictures import ImageStore
from vlm4vla.train.batches.transfer import to_arrays, to_tensors
from vlm4vla.train.fast_tokens import FILE, FastTokens, fit
from vlm4vla.train.gates import Gate
from vlm4vla.train.loop.precision import autocast
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.grounding import check_numbers
from vlm4vla.train.objectives.imitation import factors_of, frames_of, vary
from vlm4vla.train.objectives.language import (
    Answers,
    answer_loss,
    answers_in,
    sharpness_of,
    word_scores,
)
from vlm4vla.train.speed.prefix_cache import Asked, ask_rows, row_states

TOKEN: Final = "<action_{}>"
"""An action token as a word of the VLM."""

_FITTED: Final = 5_000
"""Frames whose chunks the action tokens are fitted to."""


@dataclass(frozen=True)
class TokensRecipe:
    """What the stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        instructions: instructions a frame.
        brightness: largest change of brightness and contrast, as a share.
        shuffled: the control: every answer is of another frame, drawn anew each time.
    """

    loop: Recipe
    instructions: int = 1
    brightness: float = 0.2
    shuffled: bool = False


def action_tokens(vlm: Vlm, spec: ActionSpec, frames: Frames) -> FastTokens:
    """The action tokens of a VLM: its own if it has some, else fitted to frames.

    Args:
        vlm: the VLM.
        spec: the meaning of the actions.
        frames: what is learned from.

    Raises:
        UserError: those that it has cannot be read, or write other actions.
    """
    if FILE in vlm.extras:
        kept = FastTokens.from_json(vlm.extras[FILE])
        kept.spec.check_means(spec, "the VLM's kept tokens")
        return kept
    chosen = frames.every_goal(check_numbers(frames, 0, _FITTED), np.random.default_rng(0))
    return fit(spec, chosen.chunks)


@torch.no_grad()
def add_words(vlm: Vlm, tokens: FastTokens, seed: int) -> None:
    """Gives a VLM a word for every action token, drawn as if it were one of its other words.

    Args:
        vlm: the bare VLM, changed in place; one that has them stays as it is.
        tokens: the action tokens.
        seed: of the new words.
    """
    if FILE in vlm.extras:
        return
    mean, deviation = vlm.words.float().mean(0), vlm.words.float().std(0)
    names = [TOKEN.format(number) for number in range(tokens.size)]
    vlm.tokenizer.add_special_tokens(names)
    size = vlm.tokenizer.get_vocab_size()
    # Released VLMs have more rows than words.
    if size > len(vlm.words):
        with BUILDING, torch.random.fork_rng(devices=[]):
            vlm.base.resize_token_embeddings(size, mean_resizing=False)
    draw = torch.randn((tokens.size, vlm.width), generator=torch.Generator().manual_seed(seed)).to(
        mean.device
    )
    ids = [vlm.tokenizer.token_to_id(name) for name in names]
    vlm.words[ids] = (mean + deviation * draw).to(vlm.words.dtype)
    vlm.extras = {**vlm.extras, FILE: tokens.to_json()}


@dataclass(frozen=True)
class TokensBatch:
    """B frames and R rows about them: arrays, later tensors.

    Attributes:
        numbers: int64 (B,) of the frames.
        factors: float32 (B, 2), see `vlm4vla.train.objectives.imitation.vary`.
        asked: instructions with their answers.
        answers: the tokens to be written.
    """

    numbers: Any
    factors: Any
    asked: Asked
    answers: Answers


class _Module(nn.Module):
    def __init__(self, policy: Policy, images: ImageStore) -> None:
        super().__init__()
        self.policy = policy
        self.images = images
        self.sharpness = sharpness_of(policy.vlm)

    def forward(self, batch: TokensBatch) -> tuple[Tensor, dict[str, Tensor]]:
        images = vary(self.images.take(batch.numbers), batch.factors)
        states, column = row_states(self.policy, self.policy.encode(images), batch.asked)
        scores = word_scores(self.policy.vlm, states, column, batch.answers, self.sharpness)
        right = (scores.argmax(-1) == batch.answers.ids).float().mean()
        return answer_loss(scores, batch.answers), {"right": right}


def ask_chunks(
    vlm: Vlm, tokens: FastTokens, batch: FrameBatch, chunks: NDArray[np.float32]
) -> tuple[Asked, Answers]:
    """The rows of a batch's instructions, each answered with a chunk.

    Args:
        vlm: whose words.
        tokens: the action tokens.
        batch: B frames and R instructions.
        chunks: (R, n, 7) what is answered, environment units.
    """
    answers = ["".join(map(TOKEN.format, row)) for row in tokens.encode(chunks)]
    texts = [vlm.family.text(instruction) for instruction in batch.instructions]
    asked = ask_rows(vlm, texts, answers, batch.image_index)
    return asked, answers_in(asked.rows, vlm.base.config.is_encoder_decoder)


class TokensObjective:
    """Batches and loss of the stage "tokens"; an `Objective` of the loop.

    Args:
        policy: the policy whose VLM learns; its query and head take no part.
        tokens: the action tokens, which are among the VLM's words.
        frames: the frames to learn from.
        recipe: the stage's recipe.

    Raises:
        UserError: nothing is left that learns.
    """

    def __init__(
        self, policy: Policy, tokens: FastTokens, frames: Frames, recipe: TokensRecipe
    ) -> None:
        self.vlm, self.tokens, self.frames, self.recipe = policy.vlm, tokens, frames, recipe
        self.module: nn.Module = _Module(policy, ImageStore(frames.cache.images))
        self.query: str | None = None
        for parameter in (policy.query, *policy.head.parameters()):
            parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in policy.parameters()):
            raise UserError(
                "Query and head write no tokens, so nothing would learn.",
                "Name groups of the VLM with --train.",
            )

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> TokensBatch:
        """The batch of an index: the frames and pictures that imitation would take."""
        recipe, part = self.recipe, (index, rank, ranks)
        drawn = frames_of(self.frames, recipe.loop, recipe.instructions, *part)
        chunks = self._of_others(drawn, *part) if recipe.shuffled else drawn.chunks
        asked, answers = ask_chunks(self.vlm, self.tokens, drawn, chunks)
        factors = factors_of(recipe.loop, recipe.brightness, *part)
        return to_arrays(TokensBatch(drawn.numbers, factors, asked, answers))

    def _of_others(
        self, drawn: FrameBatch, index: int, rank: int, ranks: int
    ) -> NDArray[np.float32]:
        """As many chunks of frames that are drawn alike, and have nothing to do with these."""
        loop = self.recipe.loop
        rng = np.random.default_rng([loop.seed, index, 8])
        others = self.frames.draw(
            loop.batch, self.recipe.instructions, rng, weighted=True, rank=rank, ranks=ranks
        )
        return others.chunks.take(range(len(drawn.chunks)), axis=0, mode="wrap")


@dataclass(frozen=True)
class Written:
    """Answers on unseen scenes over every valid instruction, in held-out words.

    Attributes:
        nats: mean cross entropy of a token after the right ones before it.
        right: share of tokens that were the likeliest there, by task and "all".
    """

    nats: float
    right: dict[str, float]

    def gates(self) -> list[Gate]:
        """None: what it is good for shows in the policy."""
        return []

    def metrics(self) -> dict[str, float]:
        """The metrics flat, for a log."""
        return {"nats": self.nats} | {f"right_{task}": one for task, one in self.right.items()}


@torch.inference_mode()
def measure_tokens(
    policy: Policy, tokens: FastTokens, frames: Frames, numbers: NDArray[np.int64], seed: int = 0
) -> Written:
    """Asks for the tokens of the expert's chunks on the given frames.

    Args:
        policy: holds the VLM.
        tokens: the action tokens.
        frames: where the frames come from.
        numbers: frame numbers.
        seed: of the choice of words.
    """
    rng = np.random.default_rng([seed, 9])
    sharpness = sharpness_of(policy.vlm)
    nats: list[float] = []
    right: dict[str, list[float]] = {"all": []}
    for start in range(0, len(numbers), 32):
        batch = frames.every_goal(numbers[start : start + 32], rng)
        asked, answers = to_tensors(
            ask_chunks(policy.vlm, tokens, batch, batch.chunks), policy.device
        )
        with autocast(policy.device):
            features = policy.encode(frames.cache.images[batch.numbers])
            states, column = row_states(policy, features, asked)
            scores = word_scores(policy.vlm, states, column, answers, sharpness)
        nats += F.cross_entropy(scores, answers.ids, reduction="none").tolist()
        hits = (scores.argmax(-1) == answers.ids).tolist()
        for row, hit in zip(answers.rows.tolist(), hits, strict=True):
            right.setdefault(batch.goals[row].task, []).append(hit)
            right["all"].append(hit)
    return Written(
        float(np.mean(nats)),
        {task: float(np.mean(hits)) for task, hits in sorted(right.items())},
    )
