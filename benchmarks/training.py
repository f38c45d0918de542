"""Samples and FLOP a second of training, and their share of this machine's peak.

    python benchmarks/training.py [--rounds 5] [--steps 8] [--profile] [--compile]
    OMP_NUM_THREADS=1 python benchmarks/training.py --compare [--rounds 5] [--steps 8]

Three steps at the shipped size, in the loop that trains (`vlm4vla.train.loop`): patch words
alone and questions of the language stage, and imitation on frames that are recorded first. A
step's time is the whole of it: drawing the batch, forward, backward, clipping, optimiser, running
average. FLOP are those of the forward and backward matrix products, counted by torch; peak is the
best rate of a large square matrix product in the precision that training uses, measured before
every round. A sample is a picture with as many sentences as the recipe gives it. `--profile` adds
where a step's time goes and how fast its matrix products are alone.

`--compare` alternates four ways of computing the same imitation step, in the processor's seconds:
the stock forward of transformers (sdpa, a picture and a sentence a row), the model's own layers
with a shared beginning, packed rows, and packed rows compiled. Recipe A is the study's, with one
instruction a frame; B is the project's own imitation, with all of its losses. Shares of peak
belong to a machine, so ratios are printed, and which processor gave them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vlm4vla import action, seeds
from vlm4vla.model.features import Features
from vlm4vla.model.policy import Policy
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.system.vulkan import ensure_driver
from vlm4vla.train.auxiliary import noun_positions
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.batches.pictures import draw_pool
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.loop.precision import autocast, precision
from vlm4vla.train.loop.train import train
from vlm4vla.train.objectives.imitation import (
    ImitationBatch,
    ImitationObjective,
    ImitationRecipe,
)
from vlm4vla.train.objectives.language import LanguageObjective, LanguageRecipe, make_backbone
from vlm4vla.train.presets import PRESETS
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers
from vlm4vla.train.speed.prefix_cache import Asked

WARM_UP = 2
PICTURES = 400
SIDES = (1024, 2048, 4096)
BATCH: Final = 40
"""Pictures a step where ways are compared, in both recipes."""

Measured = LanguageObjective | ImitationObjective

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


def new_policy() -> Policy:
    return Policy.from_vlm(make_backbone(), action.tiny(), query_init="embedding", device="cpu")


def language(recipe: LanguageRecipe, batch: int) -> Measured:
    recipe = replace(recipe, loop=replace(recipe.loop, batch=batch))
    return LanguageObjective(new_policy(), draw_pool(PICTURES, workers=1), recipe)


def recorded(folder: Path) -> Frames:
    """Two recorded episodes of each task."""
    from vlm4vla.data.cache import build_cache, open_cache
    from vlm4vla.data.collect import Settings, collect
    from vlm4vla.data.rigs import expert_rig

    ensure_driver()
    settings = Settings(TASKS, seeds.TRAIN.start, "expert")
    collect(folder / "data", settings, 2, 1, expert_rig, lambda progress: None)
    build_cache([folder / "data"], folder / "cache")
    cache = open_cache(folder / "cache")
    return Frames(cache, np.arange(len(cache)))


def imitation(recipe: ImitationRecipe, batch: int, frames: Frames) -> ImitationObjective:
    recipe = replace(recipe, loop=replace(recipe.loop, batch=batch))
    return ImitationObjective(new_policy(), frames, recipe)


def objectives(folder: Path, batch: int) -> dict[str, Measured]:
    """The three steps; a `batch` of 0 stands for the recipes' own."""
    speaking, acting = PRESETS["tiny"]["language"], PRESETS["tiny"]["imitation"]
    assert isinstance(speaking, LanguageRecipe) and isinstance(acting, ImitationRecipe)
    size = batch or speaking.loop.batch
    return {
        "patch words alone": language(replace(speaking, alignment_steps=10**9), size),
        "questions": language(replace(speaking, alignment_steps=0), size),
        "imitation": imitation(acting, batch or acting.loop.batch, recorded(folder)),
    }


class Stock(nn.Module):
    """An imitation step whose every row has its picture encoded and is run whole.

    Args:
        module: of the objective; its losses stay as they are.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: ImitationBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective`."""
        policy, index = self.module.policy, batch.asked.image_index
        assert isinstance(policy, Policy)
        first = torch.searchsorted(index, torch.arange(len(batch.numbers)))
        encoded: list[Features] = []

        def encode(images: Tensor) -> Features:
            encoded.append(Policy.encode(policy, images[index]))
            return encoded[0].map(lambda tokens: tokens[first])

        def states(policy: Policy, features: Features, asked: Asked) -> tuple[Tensor, int]:
            return policy.states(encoded[0], asked.rows), 0

        with (
            mock.patch.object(policy, "encode", encode),
            mock.patch.object(noun_positions, "row_states", states),
        ):
            found: tuple[Tensor, dict[str, Tensor]] = self.module(batch)
        return found


class Timed:
    """An objective that notes when each of its batches was asked for.

    Args:
        objective: the objective.
        clock: gives seconds.
        stock: whether its steps are those of `Stock`.
    """

    def __init__(
        self, objective: Measured, clock: Callable[[], float], stock: bool = False
    ) -> None:
        self.module = Stock(objective.module) if stock else objective.module
        self.query = f"module.{objective.query}" if stock else objective.query
        self.asked: list[float] = []
        self._objective = objective
        self._clock = clock

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> Any:
        """See `Objective`."""
        self.asked.append(self._clock())
        return self._objective.batch(index, rank, ranks)


@contextmanager
def fast(objective: Measured, compiled: bool) -> Iterator[None]:
    """The layers that the stages train with."""
    policy = objective.module.policy
    assert isinstance(policy, Policy)
    with fast_layers(policy), chosen_layers(policy, compiled):
        yield


def seconds_a_step(objective: Measured, steps: int, compiled: bool) -> float:
    """Mean time of a step, from one batch to the next; some batches have longer sentences."""
    with fast(objective, compiled):
        return _mean_step(Timed(objective, time.perf_counter), objective, steps)


def _mean_step(timed: Timed, objective: Measured, steps: int) -> float:
    count = WARM_UP + steps + 1
    recipe = replace(objective.recipe.loop, steps=count, save_every=count)
    with tempfile.TemporaryDirectory() as run:
        train(timed, recipe, Path(run), device="cpu")
    return float(np.mean(np.diff(timed.asked)[WARM_UP:]))


WAYS: Final = ("stock", "own", "packed", "compiled")


def layers(objective: Measured, way: str) -> AbstractContextManager[None]:
    """The layers of one of `WAYS`."""
    policy = objective.module.policy
    assert isinstance(policy, Policy)
    if way == "stock":
        return nullcontext()
    return fast_layers(policy) if way == "own" else fast(objective, way == "compiled")


def processor_seconds(objective: Measured, steps: int, way: str) -> float:
    """Mean of the processor's seconds that a step takes in one of `WAYS`."""
    timed = Timed(objective, time.process_time, way == "stock")
    with layers(objective, way):
        return _mean_step(timed, objective, steps)


def processor() -> str:
    """The processor's name, and whether it has AMX."""
    facts = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().replace("\t", "").splitlines()
        if ":" in line
    )
    amx = "amx_bf16" in facts.get("flags", "").split()
    return f"{facts.get('model name', 'unknown').strip()}, AMX {'yes' if amx else 'no'}"


def compare(rounds: int, steps: int, folder: Path) -> None:
    """Prints how many times as fast as the others each of `WAYS` is, of both recipes."""
    print(f"{processor()}, {torch.get_num_threads()} threads, precision {precision()}")
    frames = recorded(folder)
    for name, preset in {"A (study)": "paper", "B (project)": "tiny"}.items():
        recipe = PRESETS[preset]["imitation"]
        assert isinstance(recipe, ImitationRecipe)
        objective = imitation(recipe, BATCH, frames)
        times = np.array(
            [[processor_seconds(objective, steps, way) for way in WAYS] for _ in range(rounds)]
        )
        seconds = ", ".join(
            f"{way} {1000 * value:.0f} ms"
            for way, value in zip(WAYS, np.median(times, 0), strict=True)
        )
        ratios = ", ".join(
            f"{WAYS[i]}/{WAYS[j]} {np.median(part):.2f} ({part.min():.2f} to {part.max():.2f})"
            for i, j in combinations(range(len(WAYS)), 2)
            for part in (times[:, i] / times[:, j],)
        )
        print(f"{name}: a step {seconds}; times {ratios}, over {rounds} rounds")


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
    parser.add_argument("--compare", action="store_true", help="four kinds of layers in turn")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.compare:
            compare(args.rounds, args.steps, Path(folder))
            return
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
