"""The one training loop of every stage, on Accelerate.

A batch is a pure function of its index, ranks take disjoint parts of it, and everything else that
changes is in the training state: a run that was stopped at any moment goes on to the identical
result, and one process learns the same from a batch as several do from their parts of it. The
random numbers that ranks draw on the way, as dropout does, are excepted: see `random_state`.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.train.batches.transfer import prefetched, to_tensors
from vlm4vla.train.loop.ema import Ema
from vlm4vla.train.loop.precision import precision
from vlm4vla.train.loop.progress import Progress, deferred_interrupt
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.state import (
    Saves,
    TrainingState,
    lacking,
    load_state,
    random_state,
    restore_random_state,
)

RECIPE: Final = "recipe.json"
"""How a run was begun; lies in its folder from its first step on."""

_HISTORY: Final = "history.json"
"""What was measured up to the newest state."""


class Objective(Protocol):
    """What a stage minimises: a module whose forward turns a batch into a loss.

    Attributes:
        module: called with a batch on its device, gives the loss and metrics to print; means are
            taken by `mean_over_ranks`.
        query: the name of the action query among the module's parameters, or None.
    """

    module: nn.Module
    query: str | None

    def batch(self, index: int, rank: int = 0, ranks: int = 1) -> Any:
        """A rank's part of the batch of an index, as plain arrays; the same for the same index."""
        ...


Check = Callable[[int], Mapping[str, float]]
"""Measures the objective's module, with the averaged weights in place, after a number of steps."""


@dataclass(frozen=True)
class Watch:
    """What is measured, kept and told while a run goes on.

    Attributes:
        check: measured every `check_every` steps and at the end.
        check_every: 0 for only at the end.
        keep: steps done -> what writes the module, with the averaged weights in place.
        track: project name for trackio, or None.
    """

    check: Check | None = None
    check_every: int = 0
    keep: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    track: str | None = None


def train(
    objective: Objective,
    recipe: Recipe,
    run: Path,
    *,
    watch: Watch | None = None,
    device: str | None = None,
    workers: int = 0,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Trains an objective's module in place, from the run's newest state if there is one.

    On Ctrl-C or SIGTERM the step in hand is finished and saved. At the end the module holds the
    averaged weights. Under `accelerate launch` every process calls this; one writes and measures.

    Args:
        objective: what is learned.
        recipe: how.
        run: the run's folder; `recipe.json`, `history.json` and the state live there.
        watch: what is measured, kept and told on the way.
        device: "cpu" keeps an accelerator out of it.
        workers: processes that prepare batches; 0 for none.
        about: what else must be the same when the run goes on (data, start), as plain values.

    Raises:
        UserError: the run was begun in another way, the batch cannot be divided among the
            processes, trackio is wanted and missing, or a loss or a gradient is no finite number;
            the state saved before such a step stays.
        KeyboardInterrupt: the run was stopped and its state saved.
    """
    watch = watch or Watch()
    accelerator = _accelerator(watch.track, device)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if recipe.batch % ranks:
        raise UserError(
            f"A batch of {recipe.batch} pictures cannot be divided among {ranks} processes.",
            "Give a --batch that can.",
        )
    learning = [(n, p) for n, p in objective.module.named_parameters() if p.requires_grad]
    module, optimiser = accelerator.prepare(
        objective.module,
        torch.optim.AdamW(
            [parameter for _, parameter in learning],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=recipe.weight_decay,
            fused=True,
        ),
    )
    average = Ema(learning, recipe.ema)
    learner = _Learner(objective.module, learning, optimiser, average)
    start, history = _resume(learner, run, recipe, about or {}, accelerator.is_main_process)
    clipped = [parameter for name, parameter in learning if name != objective.query]
    progress = Progress(recipe, start) if accelerator.is_main_process else None
    saves = Saves(recipe.save_every)
    batches = prefetched(
        partial(objective.batch, rank=rank, ranks=ranks),
        range(start * recipe.accumulation, recipe.steps * recipe.accumulation),
        workers,
    )
    module.train()
    for step in range(start, recipe.steps):
        with deferred_interrupt() as interrupt:
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step)
            sums: dict[str, Tensor] = {}
            for part in range(recipe.accumulation):
                whole = part == recipe.accumulation - 1
                with contextlib.nullcontext() if whole else accelerator.no_sync(module):
                    batch = to_tensors(next(batches), accelerator.device)
                    loss, metrics = module(batch)
                    accelerator.backward(loss / recipe.accumulation)
                for name, value in {"loss": loss, **metrics}.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float() / recipe.accumulation
            sums[_GRADIENT] = _size_of_gradient(learning)
            if recipe.clip > 0:
                sums["norm"] = accelerator.clip_grad_norm_(clipped, recipe.clip)
            values = _numbers(accelerator, sums)
            # Before the step: weights that are no numbers would replace the state saved before it.
            _refuse_no_number("loss", values["loss"], step)
            _refuse_no_number("gradient", values.pop(_GRADIENT), step)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update()
            done = step + 1
            last = done == recipe.steps
            if progress:
                progress.show(done, values)
            due = last or (watch.check_every and done % watch.check_every == 0)
            if progress and ((watch.check and due) or done in watch.keep):
                with average.in_place():
                    module.eval()
                    if done in watch.keep:
                        watch.keep[done]()
                    if watch.check and due:
                        measured = dict(watch.check(done))
                        progress.log(done, measured)
                        values |= measured
                        history.append({"step": done, **values})
                    module.train()
            stop = _anyone(accelerator, interrupt.wanted)
            if progress and (saves.due(done) or last or stop):
                facts = {"recipe": asdict(recipe), "about": about or {}, "history": history}
                saves.save(run, _state(done, learner, facts))
                write_json(run / _HISTORY, history)
            accelerator.log(values, step=done)
            if stop:
                if progress:
                    progress.end()
                raise KeyboardInterrupt
    average.take()
    accelerator.unwrap_model(module, keep_fp32_wrapper=False).eval()
    if progress:
        progress.end()
    accelerator.wait_for_everyone()
    accelerator.end_training()


_GRADIENT: Final = "size of the gradient"
"""Its name while it is fetched with the metrics; it is none of them."""


def _size_of_gradient(learning: Sequence[tuple[str, nn.Parameter]]) -> Tensor:
    """The norm of the whole gradient, the query's with it, before anything of it is clipped."""
    gradients = [parameter.grad for _, parameter in learning if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients).float()


def _refuse_no_number(what: str, value: float, step: int) -> None:
    """Ends a run whose loss or gradient is NaN or infinite."""
    if not isfinite(value):
        raise UserError(
            f"The {what} became {value} at step {step}, and nothing was learned from it.",
            "Begin anew with a lower --learning-rate and another --out: the same command goes on "
            "from the last saved state and comes here again.",
        )


def _numbers(accelerator: Accelerator, sums: Mapping[str, Tensor]) -> dict[str, float]:
    """The means over ranks, fetched from the device at once: each fetch waits for it."""
    stacked = accelerator.reduce(torch.stack(list(sums.values())), "mean")
    return dict(zip(sums, stacked.tolist(), strict=True))


def _anyone(accelerator: Accelerator, wanted: bool) -> bool:
    """Whether a process was asked to stop; all of them must after the same step."""
    if accelerator.num_processes == 1:
        return wanted
    asked = torch.tensor(float(wanted), device=accelerator.device)
    return bool(accelerator.reduce(asked, "sum") > 0)


def _accelerator(track: str | None, device: str | None) -> Accelerator:
    log_with: list[Any] = []
    if track:
        try:
            __import__("trackio")
        except ImportError as error:
            raise UserError("trackio is not installed.", "pip install trackio") from error
        log_with = ["trackio"]
    accelerator = Accelerator(
        mixed_precision=precision(),
        cpu=device == "cpu",
        log_with=log_with or None,
        # While only the vision tower learns, the language model has no gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
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


def _buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that belong to a module's state, each with its name in a saved one."""
    kept = module.state_dict().keys()
    return ((f"buffers/{name}", b) for name, b in module.named_buffers() if name in kept)


def _state(step: int, learner: _Learner, facts: Mapping[str, Any]) -> TrainingState:
    tensors = {f"weights/{name}": p.detach() for name, p in learner.module.named_parameters()}
    tensors |= {name: buffer.detach() for name, buffer in _buffers(learner.module)}
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
    if lack := sorted({"recipe", "about", "history", "updates"} - found.facts.keys()):
        raise lacking(run, found.step, lack[0])
    begun = {**found.facts["recipe"], **found.facts["about"]}
    wanted = _plain(recipe, about)
    # Runs of earlier versions say what their data is, and not what its episodes were to be.
    unsaid = {"asked"} - begun.keys()
    _refuse_other(run, "begun", begun, wanted, (wanted.keys() | begun.keys()) - unsaid)


def check_finished(run: Path, recipe: Recipe, about: Mapping[str, Any]) -> None:
    """Refuses to take over what another run left; call it before expensive work.

    Args:
        run: the folder of a run that is over.
        recipe: how it should have learned.
        about: what else should have been so; what is not named may have been any.

    Raises:
        UserError: the run had another recipe, other data or another start, or does not say.
    """
    file = run / RECIPE
    try:
        begun = dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{run} was finished, but {file} does not say how.",
            "Give another --out to begin anew.",
        ) from error
    wanted = _plain(recipe, about)
    _refuse_other(run, "finished", begun, wanted, wanted.keys())


def _plain(recipe: Recipe, about: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON makes of the values, which is what they are compared with."""
    return dict(json.loads(json.dumps({**asdict(recipe), **about})))


def _refuse_other(
    run: Path,
    state: str,
    begun: Mapping[str, Any],
    wanted: Mapping[str, Any],
    names: Iterable[str],
) -> None:
    changed = sorted(name for name in names if wanted.get(name) != begun.get(name))
    if changed:
        raise UserError(
            f"{run} was {state} with another recipe ({', '.join(changed)} differ).",
            "Give the same options, or another --out to begin anew.",
        )


def _resume(
    learner: _Learner, run: Path, recipe: Recipe, about: Mapping[str, Any], writes: bool
) -> tuple[int, list[dict[str, Any]]]:
    """Loads the newest state; returns the steps that are done and what was measured."""
    check_same(run, recipe, about)
    found = load_state(run)
    if found is None:
        torch.manual_seed(recipe.seed)
        if writes:
            write_json(run / RECIPE, {**asdict(recipe), **about})
        return 0, []
    tensors = found.tensors
    wanted = {f"weights/{name}" for name, _ in learner.module.named_parameters()} | {"random/cpu"}
    if learner.average.values:
        wanted |= {f"average/{name}" for name, _ in learner.learning}
    if lack := sorted(wanted - tensors.keys()):
        raise lacking(run, found.step, lack[0])
    with torch.no_grad():
        for name, parameter in learner.module.named_parameters():
            parameter.copy_(tensors[f"weights/{name}"])
        for name, buffer in _buffers(learner.module):
            # States of earlier versions have none.
            if name in tensors:
                buffer.copy_(tensors[name])
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
    history = list(found.facts["history"])
    if writes:
        # A kill after the last state was saved, and before this was, leaves no step that writes it.
        write_json(run / _HISTORY, history)
    return found.step, history
