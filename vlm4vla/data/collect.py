"""Recording a dataset: an episode is a function of the settings and its number."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from vlm4vla import seeds
from vlm4vla.data.fill import Job, Progress, fill
from vlm4vla.data.lerobot import parts
from vlm4vla.data.record import Rig, record
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import TASKS


@dataclass(frozen=True)
class Settings:
    """What decides the content of each episode.

    Attributes:
        tasks: episodes go round them.
        first_seed: scenes are drawn from here on.
        driver: who acts: "expert", or "policy" and its fingerprint.
    """

    tasks: tuple[Task, ...]
    first_seed: int
    driver: str

    def episode(self, index: int) -> tuple[Task, int]:
        """Task and seed of an episode.

        Seeds of one task are `len(TASKS)` apart, so that tasks that share a layout never share a
        scene, and an episode does not change when tasks are added or left out around it.
        """
        task = self.tasks[index % len(self.tasks)]
        round_number = index // len(self.tasks)
        return task, self.first_seed + round_number * len(TASKS) + TASKS.index(task)


def collect(
    out: Path,
    settings: Settings,
    episodes: int,
    workers: int,
    make_rig: Callable[[], Rig],
    report: Callable[[Progress], None],
) -> None:
    """Records what is missing of a dataset and finishes it.

    Args:
        out: the dataset's folder; may hold an interrupted collection with the same settings.
        settings: what to record.
        episodes: for each task; may differ from the interrupted run's, up or down.
        workers: processes, each with a simulator of its own.
        make_rig: called once in each process; a module-level function or a partial of one.
        report: called after each episode.

    Raises:
        UserError: the settings are impossible or differ from what `out` holds, `out` is in use,
            a file in it is damaged, the disk is full, or a process died. Episodes that were
            recorded are kept.
    """
    total = episodes * len(settings.tasks)
    _check(settings, total)
    job = Job(
        settings=asdict(settings),
        episodes=episodes,
        total=total,
        make=partial(_Collector, out, settings, make_rig),
        call=lambda index: ("record", index),
    )
    fill(out, job, workers, report)


def _check(settings: Settings, total: int) -> None:
    if unknown := [task for task in settings.tasks if task not in TASKS]:
        raise UserError(f"Unknown task {unknown[0]!r}; known: {', '.join(TASKS)}.")
    if total < 1:
        raise UserError("Nothing to record.", "Ask for at least one task and one episode.")
    if len(set(settings.tasks)) < len(settings.tasks):
        raise UserError(
            f"A task is named twice: {', '.join(settings.tasks)}.", "Name each task once."
        )
    drawn = [settings.episode(index)[1] for index in range(total)]
    if min(drawn) not in seeds.TRAIN or max(drawn) not in seeds.TRAIN:
        raise UserError(
            f"Seeds {min(drawn)} to {max(drawn)} are not all for training.",
            f"Choose a first seed from {seeds.TRAIN.start} to "
            f"{seeds.TRAIN.stop - (max(drawn) - settings.first_seed) - 1}: models may only learn "
            "there.",
        )


class _Collector:
    """What a process does: records episodes, into the table and into files."""

    def __init__(self, out: Path, settings: Settings, make_rig: Callable[[], Rig]) -> None:
        self._out = out
        self._settings = settings
        self._rig = make_rig()
        self._table = EpisodeTable()
        self._membership = Membership("collection", out.resolve().name)

    def record(self, index: int) -> int:
        """Records an episode and returns its number of frames."""
        recorded = record(self._rig, *self._settings.episode(index))
        # The row first: what has a file is not recorded again, so it must have its row by then.
        self._table.put(recorded.episode, [self._membership])
        parts.write_part(self._out, index, recorded.recording)
        return len(recorded.recording)
