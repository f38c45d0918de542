"""The stage "language": a VLM learns to see and to speak from pictures without a robot.

First every patch learns its words, then questions are answered by next-token prediction, with the
words of patches and the places of names kept beside it. The result stands for "the pretrained VLM"
in every study.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import Vlm, make_tiny
from vlm4vla.train.auxiliary.noun_positions import Cells, NounPositions
from vlm4vla.train.auxiliary.patch_words import Aligner, PatchTargets, patch_words, targets_of
from vlm4vla.train.batches.pictures import Pool, mirrored
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.mimetic_init import start_language_model
from vlm4vla.train.speed.prefix_cache import shared_states
from vlm4vla.train.synthetic.questions import LOCATIONS, ask_several, cell_of, corpus

EMBEDDING_STD = 0.5
"""Word embeddings must lie apart from the first step on, or patches find no word to go to."""

_SHARPNESS: Final = 0.15
"""Factor of the word scores in the loss. Words lie so far apart that at 1 the loss begins near 80;
but states have a fixed length, and much below this they could not even say "one of 32 places"."""

_LENGTHY_EVERY: Final = 4
"""One batch in so many holds instructions and captions, the others brief questions."""

SIZES: Final = {
    "patch": 16,
    "merge": 1,
    "vision_layers": 6,
    "vision_width": 160,
    "language_layers": 4,
    "language_width": 160,
    "heads": 5,
    "rope_theta": 5_000_000,
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
        names: weight of the places of names.
    """

    loop: Recipe
    pictures: int = 32_000
    questions: int = 3
    alignment_steps: int = 3_000
    alignment: float = 0.5
    names: float = 0.5


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
    start_language_model(vlm.base.language_model, seed + 2)
    return vlm


@dataclass(frozen=True)
class LanguageBatch:
    """B pictures with their patch words, and R questions about them.

    `image_index` (R,) is empty while only patches are learned. `cells` holds for each row what can
    be named in its picture, and where it is.
    """

    images: Tensor
    patches: PatchTargets
    cells: tuple[Cells, ...]
    texts: tuple[str, ...]
    answers: tuple[str, ...]
    image_index: Tensor


class _Module(nn.Module):
    """The policy's VLM under the language stage's loss."""

    def __init__(self, policy: Policy, recipe: LanguageRecipe) -> None:
        super().__init__()
        self.policy = policy
        self.recipe = recipe
        self.align = Aligner(policy.vlm)
        self.names = NounPositions(policy.vlm)

    def forward(self, batch: LanguageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        policy = self.policy
        features = policy.encode(batch.images)
        patches, metrics = self.align(features.tokens, batch.patches)
        if not batch.texts:
            return patches, metrics
        rows = policy.rows(batch.texts, batch.answers)
        with self.names.listening():
            states, column = shared_states(policy, features, rows, batch.image_index)
        names = self.names.loss(self.names.find(rows, column, batch.cells))
        learned = rows.is_answer[:, column + 1 :]
        logits = policy.word_logits(states[:, :-1][learned]) * _SHARPNESS
        answers = F.cross_entropy(logits.float(), rows.ids[:, column + 1 :][learned])
        loss = answers + self.recipe.alignment * patches + self.recipe.names * names.loss
        return loss, metrics | names.metrics | {"answers": answers.detach()}


class LanguageObjective:
    """Batches and loss of the language stage; a `Objective` of the loop.

    Args:
        policy: the policy whose VLM learns; its query and head take no part.
        pool: the pictures.
        recipe: the stage's recipe.
    """

    def __init__(self, policy: Policy, pool: Pool, recipe: LanguageRecipe) -> None:
        self.policy = policy
        self.pool = pool
        self.recipe = recipe
        self.module: nn.Module = _Module(policy, recipe)
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
        pictures = [mirrored(self.pool[i]) if rng.random() < 0.5 else self.pool[i] for i in chosen]
        lengthy = index % _LENGTHY_EVERY == 0
        asked = [q for p in pictures for q in ask_several(p, each, rng, lengthy=lengthy)]
        labels = patch_words(
            np.stack([picture.segmentation for picture in pictures]),
            [picture.items for picture in pictures],
            self.side,
        )
        cells = [{item.name: cell_of(item) for item in p.items} for p in pictures]
        return LanguageBatch(
            images=torch.from_numpy(np.stack([picture.image for picture in pictures])),
            patches=targets_of(labels, device),
            cells=tuple(cells[i // each] for i in range(len(asked))),
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
