"""The one training loop of every stage, on Accelerate.

A batch is a pure function of its index, and everything else that changes is in the snapshot, so a
run that was stopped at any moment goes on to the identical result.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.train.snapshot import (
    Snapshot,
    load_snapshot,
    random_state,
    restore_random_state,
    save_snapshot,
)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a stage learns.

    Attributes:
        steps: optimiser steps.
        batch: pictures a batch.
        learning_rate: after warm-up.
        warmup: steps over which it rises linearly from 0.
        schedule: "constant", or "cosine" down to `final_rate` of the learning rate.
        final_rate: where the cosine ends, as a share.
        accumulation: batches a step.
        weight_decay: of AdamW; 0 in the paper.
        clip: largest norm of the gradient without the action query's, 0 for no clipping.
        ema: decay of the running average of the weights that the stage hands on; 0 for none.
        seed: of batches and of new weights.
        save_every: steps between snapshots.
    """

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    final_rate: float = 0.05
    accumulation: int = 1
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.99
    seed: int = 0
    save_every: int = 200

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)


class Lesson(Protocol):
    """What a stage teaches: a module whose forward turns a batch into a loss.

    Attributes:
        module: called with a batch, gives the loss and figures to print.
        batch: index -> batch; the same index gives the same batch.
        query: the name of the action query among the module's parameters, or None.
    """

    module: nn.Module
    query: str | None

    def batch(self, index: int) -> Any:
        """The batch of an index."""
        ...


Check = Callable[[int], Mapping[str, float]]
"""Measures the lesson's module, with the averaged weights in place, after a number of steps."""


def precision() -> Literal["bf16", "no"]:
    """Bf16 autocast where the hardware has bf16 matrix products, else none."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """The precision that training computes in, for measuring."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, torch.bfloat16, enabled=precision() == "bf16"
    )
    return context


def train(
    lesson: Lesson,
    recipe: Recipe,
    run: Path,
    *,
    check: Check | None = None,
    check_every: int = 0,
    track: str | None = None,
    device: str | None = None,
) -> None:
    """Trains a lesson's module in place, from the run's newest snapshot if there is one.

    On Ctrl-C or SIGTERM the step in hand is finished and saved. At the end the module holds the
    averaged weights.

    Args:
        lesson: what is learned.
        recipe: how.
        run: the run's folder; `recipe.json`, `log.jsonl` and the snapshot live there.
        check: measured every `check_every` steps and at the end, and logged.
        check_every: 0 for only at the end.
        track: project name for trackio, or None.
        device: "cpu" keeps an accelerator out of it.

    Raises:
        UserError: the run was begun with another recipe, or trackio is wanted and missing.
        KeyboardInterrupt: the run was stopped and its state saved.
    """
    accelerator = _accelerator(track, device)
    module = accelerator.prepare(lesson.module)
    learning = [(n, p) for n, p in lesson.module.named_parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [parameter for _, parameter in learning],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    average = _Average(learning, recipe.ema)
    start = _resume(lesson.module, learning, optimiser, average, recipe, run)
    clipped = [parameter for name, parameter in learning if name != lesson.query]
    progress = _Progress(recipe, start)
    module.train()
    for step in range(start, recipe.steps):
        with _deferred_interrupt() as interrupt:
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            figures: dict[str, float] = {}
            for part in range(recipe.accumulation):
                loss, shown = module(lesson.batch(step * recipe.accumulation + part))
                accelerator.backward(loss / recipe.accumulation)
                for name, value in {"loss": loss, **shown}.items():
                    figures[name] = (
                        figures.get(name, 0.0) + float(value.detach()) / recipe.accumulation
                    )
            if not figures["loss"] < float("inf"):
                raise UserError(
                    f"The loss became {figures['loss']} at step {step}.",
                    "Go back to the last snapshot with a lower learning rate.",
                )
            if recipe.clip > 0:
                figures["norm"] = float(accelerator.clip_grad_norm_(clipped, recipe.clip))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update()
            done = step + 1
            last = done == recipe.steps
            progress.show(done, figures)
            if done % recipe.save_every == 0 or last or interrupt.wanted:
                save_snapshot(
                    run, _snapshot(done, lesson.module, learning, optimiser, average, recipe)
                )
            if check and (last or (check_every and done % check_every == 0)):
                with average.in_place():
                    module.eval()
                    measured = dict(check(done))
                    module.train()
                progress.log(done, measured)
                figures |= measured
            accelerator.log(figures, step=done)
            if interrupt.wanted:
                progress.end()
                raise KeyboardInterrupt
    average.take()
    module.eval()
    progress.end()
    accelerator.end_training()


def _accelerator(track: str | None, device: str | None) -> Accelerator:
    log_with: list[Any] = []
    if track:
        try:
            __import__("trackio")
        except ImportError as error:
            raise UserError("trackio is not installed.", "pip install trackio") from error
        log_with = ["trackio"]
    accelerator = Accelerator(
        mixed_precision=precision(), cpu=device == "cpu", log_with=log_with or None
    )
    if track:
        accelerator.init_trackers(track)
    return accelerator


class _Average:
    """Exponential moving average of the learning weights, or the weights themselves for 0."""

    def __init__(self, learning: list[tuple[str, nn.Parameter]], decay: float) -> None:
        self.learning = learning
        self.decay = decay
        self.values = [p.detach().clone() for _, p in learning] if decay else []
        self.updates = 0

    def update(self) -> None:
        if self.values:
            self.updates += 1
            # Early on the average must forget the random start.
            decay = min(self.decay, self.updates / (self.updates + 10))
            torch._foreach_lerp_(self.values, [p.detach() for _, p in self.learning], 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swaps the averaged weights in for a while."""
        kept = [p.detach().clone() for _, p in self.learning]
        self.take()
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, parameter), value in zip(self.learning, kept, strict=True):
                    parameter.copy_(value)

    def take(self) -> None:
        """Replaces the weights by their averages."""
        with torch.no_grad():
            for (_, parameter), value in zip(self.learning, self.values, strict=False):
                parameter.copy_(value)


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _snapshot(
    step: int,
    module: nn.Module,
    learning: list[tuple[str, nn.Parameter]],
    optimiser: torch.optim.Optimizer,
    average: _Average,
    recipe: Recipe,
) -> Snapshot:
    tensors = {f"weights/{name}": p.detach() for name, p in module.named_parameters()}
    for i, (name, parameter) in enumerate(learning):
        for moment, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{moment}/{name}"] = value
        if average.values:
            tensors[f"average/{name}"] = average.values[i]
    facts = {"recipe": asdict(recipe), "updates": average.updates}
    return Snapshot(step, tensors | random_state(), facts)


def check_recipe(recipe: Recipe, run: Path) -> None:
    """Refuses to go on with a run under another recipe; call it before expensive work.

    Raises:
        UserError: the run was begun with another recipe.
    """
    found = load_snapshot(run)
    if found is None:
        return
    begun = found.facts["recipe"]
    changed = [name for name, value in asdict(recipe).items() if begun.get(name) != value]
    if changed:
        raise UserError(
            f"{run} was begun with another recipe ({', '.join(changed)} differ).",
            "Give the same options, or another --out to begin anew.",
        )


def _resume(
    module: nn.Module,
    learning: list[tuple[str, nn.Parameter]],
    optimiser: torch.optim.Optimizer,
    average: _Average,
    recipe: Recipe,
    run: Path,
) -> int:
    """Loads the newest snapshot; returns the steps that are done."""
    check_recipe(recipe, run)
    found = load_snapshot(run)
    if found is None:
        torch.manual_seed(recipe.seed)
        write_json(run / "recipe.json", asdict(recipe))
        return 0
    tensors = found.tensors
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"weights/{name}"])
        for i, (name, parameter) in enumerate(learning):
            # A weight that had no gradient yet has no moments.
            optimiser.state[parameter] = {
                moment: tensors[f"{moment}/{name}"].to(parameter.device)
                for moment in _MOMENTS
                if f"{moment}/{name}" in tensors
            }
            if average.values:
                average.values[i].copy_(tensors[f"average/{name}"])
    average.updates = int(found.facts["updates"])
    restore_random_state(tensors)
    return found.step


class _Interrupt:
    wanted = False


@contextmanager
def _deferred_interrupt() -> Iterator[_Interrupt]:
    """Lets a step end before Ctrl-C or SIGTERM counts."""
    interrupt = _Interrupt()

    def remember(number: int, frame: FrameType | None) -> None:
        interrupt.wanted = True

    kept = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class _Progress:
    """One line that is rewritten on a terminal, and written every 20 seconds elsewhere."""

    def __init__(self, recipe: Recipe, start: int) -> None:
        self.recipe = recipe
        self.start = start
        self.began = time.monotonic()
        self.shown = 0.0
        self.terminal = sys.stderr.isatty()

    def show(self, done: int, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self.shown < (0.5 if self.terminal else 20) and done != self.recipe.steps:
            return
        self.shown = now
        each = (now - self.began) / (done - self.start)
        samples = self.recipe.batch * self.recipe.accumulation / each
        left = round(each * (self.recipe.steps - done))
        values = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        line = f"step {done}/{self.recipe.steps} {values} | {samples:.0f} pictures/s"
        end = "\r" if self.terminal else "\n"
        print(f"{line} | {left // 60}:{left % 60:02d} left", end=end, file=sys.stderr, flush=True)

    def log(self, done: int, measured: Mapping[str, float]) -> None:
        values = " ".join(f"{name} {value:.4g}" for name, value in measured.items())
        print(f"check at {done}: {values}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.terminal:
            print(file=sys.stderr)
