"""Recording a dataset in several processes that know nothing of each other.

An episode is a function of the settings and its number. Each process is given every n-th of the
numbers that are still missing, so nothing has to be shared while they run, and an interrupted
collection goes on wherever it stopped, with any number of processes.
"""

import fcntl
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla import seeds
from vlm4vla.data import finish, parts
from vlm4vla.data.layout import OURS
from vlm4vla.data.record import Rig, record
from vlm4vla.data.tables import damaged
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import TASKS

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
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, multiprocessing.process.BaseProcess] = {}
    began = time.monotonic()
    done = frames = 0
    try:
        with _environment(OMP_NUM_THREADS="1"):
            for number in range(min(workers, len(missing))):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work,
                    args=(out, settings, missing[number::workers], make_rig, sender),
                    daemon=True,
                )
                process.start()
                # Only the child may hold the writing end, else its death would go unnoticed.
                sender.close()
                running[receiver] = process
        while running:
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                try:
                    message = receiver.recv()
                except EOFError:
                    _check_ended(running.pop(receiver))
                    continue
                if isinstance(message, UserError):
                    raise message
                done, frames = done + 1, frames + int(message)
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
    finally:
        for unfinished in running.values():
            unfinished.terminate()
            unfinished.join()


def _check_ended(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    if process.exitcode:
        how = (
            f"was ended by {signal.Signals(-process.exitcode).name}"
            if process.exitcode < 0
            else f"ended with exit code {process.exitcode}"
        )
        raise UserError(
            f"A collector process {how}.",
            "Run the same command again: it continues with the episodes that are missing.",
        )


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Sets environment variables for the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    out: Path,
    settings: Settings,
    indices: Sequence[int],
    make_rig: Callable[[], Rig],
    sender: Connection,
) -> None:
    """One process: records its episodes and tells the length of each."""
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that is gone shows as a broken pipe: then there is nobody to work for.
    with suppress(BrokenPipeError):
        try:
            rig = make_rig()
            for index in indices:
                recording = record(rig, *settings.episode(index))
                parts.write_part(out, index, recording)
                sender.send(len(recording))
        except UserError as error:
            sender.send(error)
    sender.close()
    # Vulkan's own clean-up can hang at exit; everything is in this process and ends with it.
    os._exit(0)
