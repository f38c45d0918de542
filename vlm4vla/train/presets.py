"""Recipes by name: `tiny` for two CPU cores, `paper` for the published settings.

What `paper` does otherwise than the paper is listed in `docs/training.md`.
"""

from dataclasses import replace
from typing import Final

from vlm4vla.train.dagger import DaggerRecipe
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.grounding import GroundingRecipe
from vlm4vla.train.objectives.imitation import ImitationRecipe
from vlm4vla.train.objectives.language import LanguageRecipe
from vlm4vla.train.objectives.tokens import TokensRecipe

STAGES: Final = ("language", "grounding", "tokens", "imitation", "dagger")

_PAPER: Final = Recipe(
    steps=50_000,
    batch=512,
    learning_rate=2e-5,
    warmup=250,
    schedule="constant",
    clip=0.0,
    ema=0.0,
    seed=123,
    save_every=1_000,
)
"""Paper section "Training": AdamW without weight decay, warm-up, then a constant rate.

Steps and batch are those of Bridge and LIBERO. The paper warms up for a quarter of an epoch, 1,043
steps on Bridge; the 250 are our own, and cells of studies are named by them.
"""

_LANGUAGE: Final = LanguageRecipe(Recipe(steps=5_000, batch=40, learning_rate=1e-3))
_PAPER_IMITATION: Final = ImitationRecipe(
    _PAPER,
    instructions=1,
    gripper=0.01,
    grounding=0.0,
    names=0.0,
    alignment=0.0,
    brightness=0.2,
    from_start=False,
)
"""Cells of studies learned sentences that are true of each frame, and repeat from them."""

Preset = LanguageRecipe | GroundingRecipe | TokensRecipe | ImitationRecipe | DaggerRecipe

PRESETS: Final[dict[str, dict[str, Preset]]] = {
    "tiny": {
        "language": _LANGUAGE,
        "grounding": GroundingRecipe(Recipe(steps=2_500, batch=40, learning_rate=6e-4)),
        "tokens": TokensRecipe(Recipe(steps=1_000, batch=40, learning_rate=6e-4)),
        "imitation": ImitationRecipe(Recipe(steps=3_000, batch=40, learning_rate=6e-4)),
        "dagger": DaggerRecipe(ImitationRecipe(Recipe(steps=850, batch=40, learning_rate=6e-4))),
    },
    # The paper has no language, grounding or DAgger stage: the first is that of `tiny`, the others
    # have the loop of imitation. Of its step on action tokens it names no settings; its evaluation
    # scripts name files of 4,000 iterations.
    "paper": {
        "language": _LANGUAGE,
        "grounding": GroundingRecipe(
            _PAPER, instructions=1, alignment=0.0, names=0.0, from_start=False
        ),
        "tokens": TokensRecipe(replace(_PAPER, steps=4_000)),
        "imitation": _PAPER_IMITATION,
        "dagger": DaggerRecipe(_PAPER_IMITATION),
    },
}
