"""The one training loop of every stage, on Accelerate.

A batch is a pure function of its index, and everything else that changes is in the snapshot, so a
run that was stopped at any moment goes on to the identical result.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import nn

from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.train.loop.ema import Ema
from vlm4vla.train.loop.progress import Progress, deferred_interrupt
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.state import (
    TrainingState,
    load_state,
    random_state,
    restore_random_state,
    save_state,
)


class Objective(Protocol):
    """What a stage teaches: a module whose forward turns a batch into a loss.

    Attributes:
        module: called with a batch, gives the loss and values to print.
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
    lesson: Objective,
    recipe: Recipe,
    run: Path,
    *,
    check: Check | None = None,
    check_every: int = 0,
    track: str | None = None,
    device: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Trains a lesson's module in place, from the run's newest snapshot if there is one.

    On Ctrl-C or SIGTERM the step in hand is finished and saved. At the end the module holds the
    averaged weights.

    Args:
        lesson: what is learned.
        recipe: how.
        run: the run's folder; `recipe.json`, `history.json` and the snapshot live there.
        check: measured every `check_every` steps and at the end.
        check_every: 0 for only at the end.
        track: project name for trackio, or None.
        device: "cpu" keeps an accelerator out of it.
        about: what else must be the same when the run goes on (data, start), as plain values.

    Raises:
        UserError: the run was begun in another way, or trackio is wanted and missing.
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
    average = Ema(learning, recipe.ema)
    learner = _Learner(lesson.module, learning, optimiser, average)
    start, history = _resume(learner, run, recipe, about or {})
    clipped = [parameter for name, parameter in learning if name != lesson.query]
    progress = Progress(recipe, start)
    module.train()
    for step in range(start, recipe.steps):
        with deferred_interrupt() as interrupt:
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            values: dict[str, float] = {}
            for part in range(recipe.accumulation):
                loss, metrics = module(lesson.batch(step * recipe.accumulation + part))
                accelerator.backward(loss / recipe.accumulation)
                for name, value in {"loss": loss, **metrics}.items():
                    values[name] = (
                        values.get(name, 0.0) + float(value.detach()) / recipe.accumulation
                    )
            if not values["loss"] < float("inf"):
                raise UserError(
                    f"The loss became {values['loss']} at step {step}.",
                    "Go back to the last snapshot with a lower learning rate.",
                )
            if recipe.clip > 0:
                values["norm"] = float(accelerator.clip_grad_norm_(clipped, recipe.clip))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update()
            done = step + 1
            last = done == recipe.steps
            progress.show(done, values)
            if check and (last or (check_every and done % check_every == 0)):
                with average.in_place():
                    module.eval()
                    measured = dict(check(done))
                    module.train()
                progress.log(done, measured)
                values |= measured
                history.append({"step": done, **values})
            if done % recipe.save_every == 0 or last or interrupt.wanted:
                facts = {"recipe": asdict(recipe), "about": about or {}, "history": history}
                save_state(run, _snapshot(done, learner, facts))
                write_json(run / "history.json", history)
            accelerator.log(values, step=done)
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


@dataclass(frozen=True)
class _Learner:
    """Everything that changes while a module learns."""

    module: nn.Module
    learning: list[tuple[str, nn.Parameter]]
    optimiser: torch.optim.Optimizer
    average: Ema


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _snapshot(step: int, learner: _Learner, facts: Mapping[str, Any]) -> TrainingState:
    tensors = {f"weights/{name}": p.detach() for name, p in learner.module.named_parameters()}
    for i, (name, parameter) in enumerate(learner.learning):
        for moment, value in learner.optimiser.state.get(parameter, {}).items():
            tensors[f"{moment}/{name}"] = value
        if learner.average.values:
            tensors[f"average/{name}"] = learner.average.values[i]
    return TrainingState(
        step, tensors | random_state(), {**facts, "updates": learner.average.updates}
    )


def check_same(run: Path, recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Refuses to go on with a run in another way; call it before expensive work.

    Raises:
        UserError: the run was begun with another recipe, other data or another start.
    """
    found = load_state(run)
    if found is None:
        return
    begun = {**found.facts["recipe"], **found.facts["about"]}
    # What JSON makes of the values is what they are compared with.
    wanted = json.loads(json.dumps({**asdict(recipe), **about}))
    changed = sorted(name for name in wanted | begun if wanted.get(name) != begun.get(name))
    if changed:
        raise UserError(
            f"{run} was begun with another recipe ({', '.join(changed)} differ).",
            "Give the same options, or another --out to begin anew.",
        )


def _resume(
    learner: _Learner, run: Path, recipe: Recipe, about: Mapping[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    """Loads the newest snapshot; returns the steps that are done and what was measured."""
    check_same(run, recipe, about)
    found = load_state(run)
    if found is None:
        torch.manual_seed(recipe.seed)
        write_json(run / "recipe.json", {**asdict(recipe), **about})
        return 0, []
    tensors = found.tensors
    with torch.no_grad():
        for name, parameter in learner.module.named_parameters():
            parameter.copy_(tensors[f"weights/{name}"])
        for i, (name, parameter) in enumerate(learner.learning):
            # A weight that had no gradient yet has no moments.
            learner.optimiser.state[parameter] = {
                moment: tensors[f"{moment}/{name}"].to(parameter.device)
                for moment in _MOMENTS
                if f"{moment}/{name}" in tensors
            }
            if learner.average.values:
                learner.average.values[i].copy_(tensors[f"average/{name}"])
    learner.average.updates = int(found.facts["updates"])
    restore_random_state(tensors)
    return found.step, list(found.facts["history"])
