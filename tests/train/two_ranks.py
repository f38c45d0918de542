"""A small language objective, trained as one process of several.

two_ranks.py RUN STEPS RANK [compiled]
"""

import contextlib
import sys
from pathlib import Path

from safetensors.torch import save_file

from vlm4vla import action
from vlm4vla.model.policy import Policy
from vlm4vla.train.batches.pictures import draw_pool
from vlm4vla.train.loop import train as loop
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.language import LanguageObjective, LanguageRecipe, make_backbone
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers

SIZES = {"vision_layers": 3, "vision_width": 48, "language_layers": 2, "language_width": 48}
LOOP = Recipe(steps=6, batch=6, learning_rate=1e-3, warmup=2, save_every=3, ema=0.5)


def learn(run, stop=None, compiled=False):
    """Trains for the recipe's steps, or as if the run were killed at a step; gives the VLM."""
    vlm = make_backbone(**SIZES, heads=4)
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
    recipe = LanguageRecipe(LOOP, questions=2, alignment_steps=2)
    objective = LanguageObjective(policy, draw_pool(16, workers=1), recipe)
    if stop is not None:
        batch = objective.batch

        def failing(index, rank, ranks):
            if index == stop:
                raise RuntimeError("stopped")
            return batch(index, rank, ranks)

        objective.batch = failing
    try:
        with contextlib.ExitStack() as layers:
            if compiled:
                layers.enter_context(fast_layers(policy))
                layers.enter_context(chosen_layers(policy, True))
            loop.train(objective, LOOP, run, device="cpu")
    except RuntimeError:
        if stop is None:
            raise
    return {n: p.detach().clone() for n, p in vlm.base.named_parameters()}


if __name__ == "__main__":
    loop.precision = lambda: "no"
    run, stop = Path(sys.argv[1]), int(sys.argv[2])
    weights = learn(run, stop if stop >= 0 else None, "compiled" in sys.argv)
    if int(sys.argv[3]) == 0:
        save_file(weights, run / "weights.safetensors")
