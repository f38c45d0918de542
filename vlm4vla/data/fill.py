"""Filling a dataset's folder with episodes, in several processes that know nothing of each other.

Each process is given the next of the episodes that are still missing whenever it is done with one.
Nothing depends on which process made an episode, so an interrupted run goes on wherever it stopped,
with any number of processes.
"""

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from vlm4vla.data.lerobot import finish, parts
from vlm4vla.data.lerobot.layout import OURS
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.lerobot.schema import EpisodeInfo
from vlm4vla.data.lerobot.tables import damaged
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.workers.child import Child

_REMEDY: Final = "Run the same command again: it continues with the episodes that are missing."

_EPISODE_TIMEOUT: Final = 1800.0
"""Seconds until a process that does not finish an episode is given up; a large policy on a small
machine takes minutes."""

_SETTINGS: Final = Path(parts.FOLDER, "settings.json")

_HALF_SETTINGS: Final = f".{_SETTINGS.name}.*"
"""The temporary file that becomes the settings."""


@dataclass(frozen=True)
class Job:
    """What a folder is filled with.

    Attributes:
        settings: plain values that decide the content of each episode.
        episodes: of each task; kept with the settings, may change while the job is unfinished.
        total: episodes in all.
        make: makes, in each process, the object whose method writes an episode's part.
        call: number of an episode -> name of that method, then its arguments; it answers the
            number of frames.
        check: called with the number of every episode that is there already and what is known of
            it; raises if that is another one than the job makes. None where the settings alone
            decide which episodes they are.
    """

    settings: Mapping[str, Any]
    episodes: int
    total: int
    make: Callable[[], Any]
    call: Callable[[int], tuple[Any, ...]]
    check: Callable[[int, EpisodeInfo | None], None] | None = None


class Progress(NamedTuple):
    """How far a job is.

    Attributes:
        episodes: made so far, also by earlier runs.
        total: episodes wanted.
        frames: made by this run.
        seconds: since this run began.
        rate: frames a second of this run, all processes together.
        left: seconds until the end at this speed.
    """

    episodes: int
    total: int
    frames: int
    seconds: float
    rate: float
    left: float


def fill(out: Path, job: Job, workers: int, report: Callable[[Progress], None]) -> None:
    """Makes what is missing of a dataset and finishes it.

    Args:
        out: the dataset's folder; may hold an interrupted job with the same settings.
        job: what to make.
        workers: processes.
        report: called after each episode.

    Raises:
        UserError: `out` holds something else, is in use, has a damaged file or is not writable,
            or a process failed; or see `Job.check`. Episodes that were made are kept.
    """
    settings = json.loads(json.dumps({**job.settings, "episodes": job.episodes}))
    if finish.is_finished(out):
        found = _read(out / OURS).get("settings")
        if found != settings:
            raise UserError(
                f"{out} holds a finished dataset with other settings: {json.dumps(found)}.",
                "Choose another folder; training takes several datasets.",
            )
        _check_finished(out, job)
        finish.discard_parts(out)
        return
    with _alone(out):
        _begin(out, job.settings)
        have = parts.indices(out)
        if job.check:
            for index in sorted(have & set(range(job.total))):
                job.check(index, parts.read_part(parts.part_path(out, index)).info)
        missing = [index for index in range(job.total) if index not in have]
        if missing:
            _run(job, missing, workers, report)
        finish.finish(out, job.total, settings)


def _check_finished(out: Path, job: Job) -> None:
    if not job.check:
        return
    found = open_dataset(out).episodes
    if len(found) != job.total:
        raise UserError(
            f"{out} holds a finished dataset of {len(found)} episodes, not of {job.total}.",
            "Choose another folder.",
        )
    for row in found:
        job.check(row.index, row.info)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second job out; the lock goes with the process, however it ends."""
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


def _begin(out: Path, settings: Mapping[str, Any]) -> None:
    """Continues what is there, or claims an empty folder."""
    path = out / _SETTINGS
    if path.is_file():
        found = _read(path)
        if found != json.loads(json.dumps(settings)):
            raise UserError(
                f"{out} holds an unfinished collection with other settings: {json.dumps(found)}.",
                "Use the same settings to continue it, or choose another folder.",
            )
    elif others := [entry.name for entry in out.iterdir() if not _barely_begun(entry)]:
        raise UserError(
            f"{out} is not empty ({others[0]}) and is no dataset.", "Choose another folder."
        )
    else:
        write_json(path, dict(settings))
    # A killed process leaves the temporary file that it was writing.
    for folder in (out / parts.FOLDER, out / "previews"):
        for leftover in (*folder.rglob(".episode-*"), *folder.glob(_HALF_SETTINGS)):
            leftover.unlink()


def _barely_begun(entry: Path) -> bool:
    """Whether it is what a job leaves that ends before its settings are written."""
    return (
        entry.name == parts.FOLDER
        and entry.is_dir()
        and all(inside.match(_HALF_SETTINGS) for inside in entry.iterdir())
    )


def _run(
    job: Job, missing: Sequence[int], workers: int, report: Callable[[Progress], None]
) -> None:
    waiting = iter(missing)
    told: SimpleQueue[int | Exception] = SimpleQueue()
    children: list[Child] = []
    ended = threading.Event()

    def work() -> None:
        """One process's thread: hands out episodes and tells the length of each."""
        try:
            child = Child(job.make, "collector", _REMEDY, _EPISODE_TIMEOUT)
            children.append(child)
            while not ended.is_set() and (index := next(waiting, None)) is not None:
                told.put(child.call(*job.call(index)))
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
                    episodes=job.total - len(missing) + done,
                    total=job.total,
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
