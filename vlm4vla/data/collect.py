"""Recording a dataset in several processes that know nothing of each other.

An episode is a function of the settings and its number. Each process is given the next of the
numbers that are still missing whenever it is done with one, and an interrupted collection goes on
wherever it stopped, with any number of processes.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from vlm4vla import seeds
from vlm4vla.data import finish, parts
from vlm4vla.data.layout import OURS
from vlm4vla.data.record import Rig, record
from vlm4vla.data.tables import damaged
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.workers.child import Child

_REMEDY: Final = "Run the same command again: it continues with the episodes that are missing."

_EPISODE_TIMEOUT: Final = 1800.0
"""Seconds until a process that does not finish an episode is given up; a large policy on a small
machine takes minutes."""

_SETTINGS: Final = Path(parts.FOLDER, "settings.json")


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


class Progress(NamedTuple):
    """How far a collection is.

    Attributes:
        episodes: recorded so far, also by earlier runs.
        total: episodes wanted.
        frames: recorded by this run.
        seconds: since this run began to record.
        rate: frames a second of this run, all processes together.
        left: seconds until the end at this speed.
    """

    episodes: int
    total: int
    frames: int
    seconds: float
    rate: float
    left: float


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
    if finish.is_finished(out):
        _check_same(out, settings, total)
        finish.discard_parts(out)
        return
    with _alone(out):
        _begin(out, settings)
        have = parts.indices(out)
        missing = [index for index in range(total) if index not in have]
        if missing:
            _run(out, settings, missing, total, workers, make_rig, report)
        finish.finish(out, total, asdict(settings) | {"episodes": episodes})


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
            f"Choose a first seed of at least {seeds.TRAIN.start}: models may only learn there.",
        )


def _check_same(out: Path, settings: Settings, total: int) -> None:
    found = _read(out / OURS)["settings"]
    if found["episodes"] * len(found["tasks"]) != total or _settings(found) != settings:
        raise UserError(
            f"{out} holds a finished dataset with other settings: {json.dumps(found)}.",
            "Choose another folder; training takes several datasets.",
        )


def _settings(values: dict[str, Any]) -> Settings:
    return Settings(tuple(values["tasks"]), int(values["first_seed"]), str(values["driver"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second collection out; the lock goes with the process, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"Could not write to {out}: {error.strerror}.", "Choose another folder."
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another collection is writing to {out}.", "Wait for it.") from error
        yield
    finally:
        os.close(lock)


def _begin(out: Path, settings: Settings) -> None:
    """Continues what is there, or claims an empty folder."""
    path = out / _SETTINGS
    if path.is_file():
        found = _settings(_read(path))
        if found != settings:
            raise UserError(
                f"{out} holds an unfinished collection with other settings: {found}.",
                "Use the same settings to continue it, or choose another folder.",
            )
    elif others := [entry.name for entry in out.iterdir()]:
        raise UserError(
            f"{out} is not empty ({others[0]}) and is no dataset.", "Choose another folder."
        )
    else:
        write_json(path, asdict(settings))
    # A killed process leaves the temporary file that it was writing.
    for folder in (out / parts.FOLDER, out / "previews"):
        for leftover in folder.rglob(".episode-*"):
            leftover.unlink()


def _run(
    out: Path,
    settings: Settings,
    missing: Sequence[int],
    total: int,
    workers: int,
    make_rig: Callable[[], Rig],
    report: Callable[[Progress], None],
) -> None:
    waiting = iter(missing)
    told: SimpleQueue[int | Exception] = SimpleQueue()
    children: list[Child] = []
    ended = threading.Event()

    def work() -> None:
        """One process's thread: hands out episodes and tells the length of each."""
        try:
            make = partial(_Collector, out, settings, make_rig)
            child = Child(make, "collector", _REMEDY, _EPISODE_TIMEOUT)
            children.append(child)
            while not ended.is_set() and (index := next(waiting, None)) is not None:
                told.put(child.call("record", index))
            child.close()
        except Exception as error:  # noqa: BLE001 - whoever waits must be told whatever it is
            told.put(error)

    threads = [
        threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(missing)))
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    frames = 0
    try:
        for done in range(1, len(missing) + 1):
            answer = told.get()
            if isinstance(answer, Exception):
                raise answer
            frames += answer
            seconds = time.monotonic() - began
            report(
                Progress(
                    episodes=total - len(missing) + done,
                    total=total,
                    frames=frames,
                    seconds=seconds,
                    rate=frames / seconds,
                    left=seconds / done * (len(missing) - done),
                )
            )
        for thread in threads:
            thread.join()
    finally:
        # One that is still starting up finds nothing to do, and ends with this process at latest.
        ended.set()
        for child in children:
            child.kill()


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
