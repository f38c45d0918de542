"""DAgger: the policy acts, the expert labels what it gets into, the policy learns from that too.

Ross, Gordon and Bagnell 2011. Each round records where the present policy goes wrong, more of the
tasks at which it fails more, and trains on everything recorded so far.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vlm4vla.data.cache import Cache, build_cache, open_cache
from vlm4vla.data.collect import Settings, collect
from vlm4vla.data.fill import Progress
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.record import Rig
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.model.checkpoint import MANIFEST, verify
from vlm4vla.model.groups import GROUPS
from vlm4vla.seeds import TRAIN
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.train.loop.train import check_finished
from vlm4vla.train.objectives.imitation import ImitationRecipe
from vlm4vla.train.run import Run, one_at_a_time
from vlm4vla.train.stages import CHECKPOINT, about_stage, run_imitation
from vlm4vla.train.start import identity_of, start_policy

_FIRST_SEED = TRAIN.start + 20_000_000
_SEEDS_A_ROUND = 1_000_000
"""Scenes of a round lie apart from those of other rounds and of the expert's demonstrations."""

_LEAST_SHARE = 0.25
"""A task that never fails still gets this share of an even budget, or it would be unlearned."""


@dataclass(frozen=True)
class DaggerRecipe:
    """How the rounds go.

    Attributes:
        imitation: the training of each round.
        rounds: how many.
        episodes: recorded in each round, over all tasks.
        workers: processes that record.
    """

    imitation: ImitationRecipe
    rounds: int = 3
    episodes: int = 240
    workers: int = 2


@dataclass(frozen=True)
class Recorder:
    """How a policy is put before the simulator.

    Attributes:
        rig: checkpoint folder -> maker of the rig in a collector's process.
        name: checkpoint folder -> what the policy is called in the data.
        report: told about each episode.
    """

    rig: Callable[[Path], Callable[[], Rig]]
    name: Callable[[Path], str]
    report: Callable[[Progress], None]


def budget(failures: Mapping[Task, float], episodes: int) -> dict[Task, int]:
    """Divides episodes among tasks by how often the policy fails at them.

    Args:
        failures: failure rate by task, 0..1.
        episodes: to divide; every task gets at least one.
    """
    floor = _LEAST_SHARE / len(failures)
    total = sum(failures.values())
    return {
        task: max(
            1,
            round(
                episodes
                * (floor + (1 - _LEAST_SHARE) * (rate / total if total else 1 / len(failures)))
            ),
        )
        for task, rate in failures.items()
    }


def failure_rates(cache: Cache, driver: str, tasks: Sequence[Task]) -> dict[Task, float]:
    """How often one driver's episodes ended without success, by task."""
    succeeded = np.zeros(len(cache.episodes), bool)
    np.logical_or.at(succeeded, cache.episode, cache.success)
    rates: dict[Task, float] = {}
    for task in tasks:
        mine = [
            index
            for index, info in enumerate(cache.episodes)
            if info.driver == driver and info.task == task
        ]
        rates[task] = float(1 - succeeded[mine].mean()) if mine else 1.0
    return rates


@one_at_a_time
def run_dagger(
    run: Run,
    recipe: DaggerRecipe,
    start: Path,
    datasets: Sequence[Path],
    tasks: Sequence[Task],
    recorder: Recorder,
    groups: Sequence[str] = GROUPS,
) -> Path:
    """Runs the rounds; a round that is complete is not repeated.

    Args:
        run: the run; each round has a folder in it.
        recipe: how.
        start: the checkpoint that acts in the first round.
        datasets: what it learned from; learned from again in every round.
        tasks: which tasks.
        recorder: how a policy acts.
        groups: which freeze groups learn.

    Returns:
        The checkpoint of the last round.

    Raises:
        UserError: the start is no checkpoint, a dataset is missing, a round was recorded or
            finished in another way, or another process trains in the same folder.
    """
    if not (start / MANIFEST).is_file():
        raise UserError(f"{start} is no checkpoint.", "Train one: `vlm4vla train imitation`.")
    for dataset in datasets:
        if not dataset.is_dir():
            raise UserError(f"There is no dataset {dataset}.", "Name it with --datasets.")
    checkpoint, data = start, list(datasets)
    failures: dict[Task, float] = dict.fromkeys(tasks, 1.0)
    history = []
    for number in range(1, recipe.rounds + 1):
        folder = run.folder / f"round-{number}"
        driver = recorder.name(checkpoint)
        loop = replace(recipe.imitation.loop, seed=recipe.imitation.loop.seed + number)
        training = replace(recipe.imitation, loop=loop)
        begun = replace(run, folder=folder, start=identity_of(checkpoint))
        over = (folder / CHECKPOINT / MANIFEST).is_file()
        if over:
            frozen = _frozen(folder / CHECKPOINT, groups)
            _refuse_another(begun, training, tasks=tasks, frozen=frozen)
        seed = _FIRST_SEED + number * _SEEDS_A_ROUND
        for task, episodes in budget(failures, recipe.episodes).items():
            out = folder / "data" / task
            settings = Settings((task,), seed, driver)
            collect(
                out, settings, episodes, recipe.workers, recorder.rig(checkpoint), recorder.report
            )
            data.append(out)
        if over:
            # What the round recorded is whole by now, and a cache of everything takes minutes.
            fingerprints = [str(open_dataset(dataset).fingerprint) for dataset in data]
            _refuse_another(begun, training, data="+".join(fingerprints))
        build_cache(data, folder / "cache")
        cache = open_cache(folder / "cache")
        failures = failure_rates(cache, driver, tasks)
        history.append({"round": number, "failures": failures})
        write_json(run.folder / "dagger.json", history)
        for task, rate in failures.items():
            print(f"round {number}: {task} fails {rate:.1%}", flush=True)
        if not over:
            policy = start_policy(checkpoint, "vlm", run.device)
            run_imitation(begun, training, policy, cache, tasks, groups)
        checkpoint = folder / CHECKPOINT
        del cache
        # The next round's cache holds this one's frames again.
        shutil.rmtree(folder / "cache")
    return checkpoint


def _refuse_another(run: Run, recipe: ImitationRecipe, **about: Any) -> None:
    """Refuses to take over a round that was trained in another way."""
    wanted = about_stage("imitation", recipe, start=run.start, **about)
    check_finished(run.folder, recipe.loop, wanted)


def _frozen(checkpoint: Path, groups: Sequence[str]) -> list[str]:
    """What does not learn in a round of these groups, by the sizes that its checkpoint names."""
    sizes = verify(checkpoint)["parameters"]
    return [name for name, size in sizes.items() if size["parameters"] and name not in groups]
