"""The stage "language": a VLM learns to see and to speak from pictures without a robot.

First every patch learns its words, then questions are answered by next-token prediction with the
patch words kept beside it. The result stands for "the pretrained VLM" in every study.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm, make_tiny
from vlm4vla.train.alignment import Aligner, PatchTargets, patch_words, targets_of
from vlm4vla.train.pictures import Pool
from vlm4vla.train.questions import LOCATIONS, ask_several, corpus
from vlm4vla.train.recipe import Recipe
from vlm4vla.train.shared import shared_states

EMBEDDING_STD = 0.5
"""Word embeddings must lie apart from the first step on, or patches find no word to go to."""

SIZES: Final = {
    "patch": 16,
    "merge": 1,
    "vision_layers": 6,
    "vision_width": 160,
    "language_layers": 4,
    "language_width": 160,
    "heads": 5,
}
"""Of the tiny VLM (`docs/training.md` says what else was tried)."""


@dataclass(frozen=True)
class LanguageRecipe:
    """What the language stage adds to the loop's recipe.

    Attributes:
        loop: the loop's own recipe.
        pictures: how many pictures are drawn for training.
        questions: questions a picture in a batch.
        alignment_steps: steps at the start with the alignment alone.
        alignment: weight of the alignment afterwards.
    """

    loop: Recipe
    pictures: int = 10_000
    questions: int = 3
    alignment_steps: int = 200
    alignment: float = 0.5


def make_backbone(seed: int = 0, **sizes: int) -> Vlm:
    """A tiny random VLM whose tokenizer knows our words, with location tokens.

    Args:
        seed: of the weights.
        **sizes: passed to the family's tiny config, over `SIZES`.
    """
    vlm = make_tiny(
        corpus(),
        "qwen3-vl",
        seed=seed,
        embedding_std=EMBEDDING_STD,
        dtype=torch.float32,
        **{**SIZES, **sizes},
    )
    vlm.tokenizer.add_special_tokens(list(LOCATIONS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        vlm.base.resize_token_embeddings(vlm.tokenizer.get_vocab_size(), mean_resizing=False)
        words = vlm.base.get_input_embeddings().weight
        torch.nn.init.normal_(words[-len(LOCATIONS) :], std=EMBEDDING_STD)
    return vlm


@dataclass(frozen=True)
class LanguageBatch:
    """B pictures with their patch words, and R questions about them.

    `image_index` (R,) is empty while only patches are learned.
    """

    images: Tensor
    patches: PatchTargets
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    image_index: Tensor


class _Module(nn.Module):
    """The policy's VLM under the language stage's loss."""

    def __init__(self, policy: Policy, alignment: float) -> None:
        super().__init__()
        self.policy = policy
        self.alignment = alignment
        self.align = Aligner(policy.vlm)

    def forward(self, batch: LanguageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        policy = self.policy
        features = policy.encode(batch.images)
        patches, shown = self.align(features.tokens, batch.patches)
        if not batch.texts:
            return patches, shown
        rows = policy.rows(batch.texts, batch.answers)
        states, column = shared_states(policy, features, rows, batch.image_index)
        learned = rows.is_answer[:, column + 1 :]
        # At full size, words this far apart cost near 100 at the start. But the hidden state has a
        # fixed length, so much smaller logits could not even say "one of these 32 places".
        logits = policy.word_logits(states[:, :-1][learned]) / 2
        answers = F.cross_entropy(logits.float(), rows.ids[:, column + 1 :][learned])
        return answers + self.alignment * patches, shown | {"answers": answers.detach()}


class LanguageLesson:
    """Batches and loss of the language stage; a `Lesson` of the loop.

    Args:
        policy: the policy whose VLM learns; its query and head take no part.
        pool: the pictures.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, pool: Pool, recipe: LanguageRecipe) -> None:
        self.policy = policy
        self.pool = pool
        self.recipe = recipe
        self.module: nn.Module = _Module(policy, recipe.alignment)
        self.query: str | None = None
        self.side = round(policy.vlm.image_tokens**0.5)
        for parameter in (policy.query, *policy.head.parameters()):
            parameter.requires_grad_(False)

    def batch(self, index: int) -> LanguageBatch:
        """The batch of an index: every picture once an epoch, in another order each time."""
        recipe, device = self.recipe, self.policy.device
        chosen = epoch_order(len(self.pool), recipe.loop.batch, index, recipe.loop.seed)
        rng = np.random.default_rng([recipe.loop.seed, index, 1])
        asking = index >= recipe.alignment_steps * recipe.loop.accumulation
        each = recipe.questions if asking else 0
        asked = [q for i in chosen for q in ask_several(self.pool[i], each, rng)]
        labels = patch_words(
            self.pool.segmentations[chosen],
            [self.pool.items[i] for i in chosen],
            self.side,
        )
        return LanguageBatch(
            images=torch.from_numpy(self.pool.images[chosen]),
            patches=targets_of(labels, device),
            texts=tuple(question.text for question in asked),
            answers=tuple(question.answer for question in asked),
            image_index=torch.arange(len(chosen)).repeat_interleave(each).to(device),
        )


def epoch_order(count: int, batch: int, index: int, seed: int) -> list[int]:
    """Which of `count` samples the batch of an index holds; a pure function of its arguments.

    Within an epoch no sample comes twice; what does not fill a batch waits for the next epoch.
    """
    batch = min(batch, count)
    epoch, place = divmod(index, count // batch)
    order = np.random.default_rng([seed, epoch, 2]).permutation(count)
    return [int(i) for i in order[place * batch : (place + 1) * batch]]
