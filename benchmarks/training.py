"""Samples and FLOP a second of training, and their share of this machine's peak.

    python benchmarks/training.py [--rounds 5] [--steps 8] [--profile] [--compile]

Three steps at the shipped size, in the loop that trains (`vlm4vla.train.loop`): patch words
alone and questions of the language stage, and imitation on frames that are recorded first. A
step's time is the whole of it: drawing the batch, forward, backward, clipping, optimiser, running
average. FLOP are those of the forward and backward matrix products, counted by torch; peak is the
best rate of a large square matrix product in the precision that training uses, measured before
every round. A sample is a picture with as many sentences as the recipe gives it. `--profile` adds
where a step's time goes and how fast its matrix products are alone.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vlm4vla import action, seeds
from vlm4vla.model.policy import Policy
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.system.vulkan import ensure_driver
from vlm4vla.train.batches.pictures import draw_pool
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.loop.precision import autocast, precision
from vlm4vla.train.loop.train import train
from vlm4vla.train.objectives.imitation import ImitationObjective, ImitationRecipe
from vlm4vla.train.objectives.language import LanguageObjective, LanguageRecipe, make_backbone
from vlm4vla.train.presets import PRESETS
from vlm4vla.train.speed.cpu_layers import compiled_layers, fast_layers

WARM_UP = 2
PICTURES = 400
SIDES = (1024, 2048, 4096)
Measured = LanguageObjective | ImitationObjective

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def new_policy() -> Policy:
    return Policy.from_vlm(make_backbone(), action.tiny(), query_init="embedding", device="cpu")


def language(recipe: LanguageRecipe, batch: int) -> Measured:
    recipe = replace(recipe, loop=replace(recipe.loop, batch=batch))
    return LanguageObjective(new_policy(), draw_pool(PICTURES, workers=1), recipe)


def imitation(recipe: ImitationRecipe, batch: int, folder: Path) -> Measured:
    """The imitation objective on two recorded episodes of each task."""
    from vlm4vla.data.cache import build_cache, open_cache
    from vlm4vla.data.collect import Settings, collect
    from vlm4vla.data.rigs import expert_rig
    from vlm4vla.train.batches.frames import Frames

    ensure_driver()
    settings = Settings(TASKS, seeds.TRAIN.start, "expert")
    collect(folder / "data", settings, 2, 1, expert_rig, lambda progress: None)
    build_cache([folder / "data"], folder / "cache")
    cache = open_cache(folder / "cache")
    recipe = replace(recipe, loop=replace(recipe.loop, batch=batch))
    return ImitationObjective(new_policy(), Frames(cache, np.arange(len(cache))), recipe)


def objectives(folder: Path, batch: int) -> dict[str, Measured]:
    """The three steps; a `batch` of 0 stands for the recipes' own."""
    speaking, acting = PRESETS["tiny"]["language"], PRESETS["tiny"]["imitation"]
    assert isinstance(speaking, LanguageRecipe) and isinstance(acting, ImitationRecipe)
    size = batch or speaking.loop.batch
    return {
        "patch words alone": language(replace(speaking, alignment_steps=10**9), size),
        "questions": language(replace(speaking, alignment_steps=0), size),
        "imitation": imitation(acting, batch or acting.loop.batch, folder),
    }


class Timed:
    """An objective that notes when each of its batches was asked for."""

    def __init__(self, objective: Measured) -> None:
        self.module = objective.module
        self.query = objective.query
        self.asked: list[float] = []
        self._objective = objective

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> Any:
        """See `Objective`."""
        self.asked.append(time.perf_counter())
        return self._objective.batch(index, rank, ranks)


@contextmanager
def fast(objective: Measured, compiled: bool) -> Iterator[None]:
    """The layers that the stages train with."""
    policy = objective.module.policy
    assert isinstance(policy, Policy)
    with fast_layers(policy), compiled_layers(policy, compiled):
        yield


def seconds_a_step(objective: Measured, steps: int, compiled: bool) -> float:
    """Mean time of a step, from one batch to the next; some batches have longer sentences."""
    timed = Timed(objective)
    count = WARM_UP + steps + 1
    recipe = replace(objective.recipe.loop, steps=count, save_every=count)
    with tempfile.TemporaryDirectory() as run, fast(objective, compiled):
        train(timed, recipe, Path(run), device="cpu")
    return float(np.mean(np.diff(timed.asked)[WARM_UP:]))


def flop_a_step(objective: Measured, steps: int) -> float:
    """Floating-point operations of a timed step's matrix products, forward and backward."""
    module = objective.module
    counter = FlopCounterMode(display=False)
    with fast(objective, False), counter:
        for index in range(WARM_UP, WARM_UP + steps):
            with autocast(torch.device("cpu")):
                loss, _ = module(to_tensors(objective.batch(index), torch.device("cpu")))
            loss.backward()
            module.zero_grad(set_to_none=True)
    return counter.get_total_flops() / steps


def peak() -> float:
    """FLOP a second of the fastest of some square matrix products."""
    dtype = torch.bfloat16 if precision() == "bf16" else torch.float32
    best = 0.0
    for side in SIDES:
        a, b = torch.randn(2, side, side).to(dtype)
        a @ b
        for _ in range(5):
            began = time.perf_counter()
            a @ b
            best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def breakdown(objective: Measured, best: float, compiled: bool) -> str:
    """Where the time of one step goes."""
    module = objective.module
    batch = to_tensors(objective.batch(WARM_UP), torch.device("cpu"))
    flop = flop_a_step(objective, 1)
    optimiser = torch.optim.AdamW(module.parameters(), fused=True)

    def step() -> None:
        with autocast(torch.device("cpu")):
            loss, _ = module(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    with fast(objective, compiled):
        step()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            step()
    averages = found.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    inside = sum(event.self_cpu_time_total for event in averages if event.key in PRODUCTS)
    rate = flop / (inside / 1e6)
    return (
        f"{averages.table(sort_by='self_cpu_time_total', row_limit=16, max_name_column_width=40)}"
        f"matrix products take {inside / total:.0%} of the time, at {rate / best:.2f} of peak; "
        f"{sum(event.count for event in averages if event.key in PRODUCTS)} of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed steps a round")
    parser.add_argument("--batch", type=int, default=0, help="pictures; 0 for the recipes' own")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--compile", action="store_true", help="as `vlm4vla train --compile`")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = objectives(Path(folder), args.batch)
        peaks: list[float] = []
        times: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(args.rounds):
            peaks.append(peak())
            for name, objective in measured.items():
                times[name].append(seconds_a_step(objective, args.steps, args.compile))
        best = float(np.median(peaks))
        kind = "bf16" if precision() == "bf16" else "float32"
        print(
            f"peak: {best / 1e9:.0f} GFLOP/s, {kind} matrix products, "
            f"{torch.get_num_threads()} threads"
        )
        for name, objective in measured.items():
            seconds, flop = float(np.median(times[name])), flop_a_step(objective, args.steps)
            shares = flop / np.array(times[name]) / np.array(peaks)
            print(
                f"{name}: {objective.recipe.loop.batch / seconds:.1f} samples a second, "
                f"{flop / seconds / 1e9:.0f} GFLOP/s, {np.median(shares):.3f} of peak "
                f"(rounds {', '.join(f'{share:.3f}' for share in shares)}); "
                f"{flop / 1e9:.0f} GFLOP a step"
            )
            if args.profile:
                print(breakdown(objective, best, args.compile))


if __name__ == "__main__":
    main()
