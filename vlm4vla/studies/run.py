"""Running cells: each by ordinary commands, one core a cell, resumable at any moment."""

import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import held
from vlm4vla.studies.cell import (
    Cell,
    eval_command,
    measure_command,
    step_command,
    train_command,
)
from vlm4vla.studies.status import done, measured
from vlm4vla.studies.study import Member
from vlm4vla.studies.trained import (
    CHECKPOINT,
    FILE,
    RUN,
    VLM,
    check_step,
    check_trained,
    checkpoint_of,
    folder_of,
    keep_account,
)
from vlm4vla.workers import pinned

LOG: Final = "log.txt"
CLI: Final = "vlm4vla.cli"
"""The module that carries commands out."""

_ALONE: Final = nullcontext()
_TELL_EVERY: Final = 30.0
"""Seconds between two lines about what is going on."""
_SHOWN: Final = 90
"""Letters of a log's last line that are told."""
_TAIL: Final = 2_000
"""Bytes of a log that hold its last line."""


class Runner:
    """Runs cells that lack episodes or measures, several at a time, and tells how far they are.

    Args:
        table: where the commands keep episodes: that of the data folder.
        data: the training cache.
        cores: numbers of the cores, one cell at a time on each.
        tell: called with a line for people.
        module: what carries commands out.
    """

    def __init__(
        self,
        table: EpisodeTable,
        data: Path,
        cores: Sequence[int],
        tell: Callable[[str], None],
        module: str = CLI,
    ) -> None:
        self._table, self._data, self._cores, self._tell = table, data, cores, tell
        self._module = module
        self._waiting: queue.SimpleQueue[Member] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._now: dict[int, Member] = {}
        self._seconds: list[float] = []
        self._failed: list[str] = []
        self._making: dict[Path, threading.Lock] = {}
        self._left = 0
        self._stopped = False

    def run(self, members: Sequence[Member]) -> None:
        """Runs cells in order; a cell that fails does not keep the others.

        Ctrl-C lets every training save its state first.

        Args:
            members: what lacks episodes or measures.

        Raises:
            UserError: cells failed; the message says which and where their logs are.
        """
        self._left = len(members)
        for member in members:
            self._waiting.put(member)
        with ThreadPoolExecutor(len(self._cores)) as threads:
            working = [threads.submit(self._work, core) for core in self._cores]
            try:
                while wait(working, _TELL_EVERY, FIRST_EXCEPTION).not_done:
                    if broken := [one for one in working if one.done() and one.exception()]:
                        broken[0].result()
                    self._tell(self._progress())
            finally:
                self._stop()
        for one in working:
            one.result()
        if self._failed:
            raise UserError(" ".join(self._failed), "The same command with --resume goes on.")

    def _work(self, core: int) -> None:
        while not self._stopped:
            try:
                member = self._waiting.get_nowait()
            except queue.Empty:
                return
            begun = time.monotonic()
            try:
                self._now[core] = member
                self._run(core, member)
                self._seconds.append(time.monotonic() - begun)
                self._tell(f"done: {member.label} ({member.cell.name})")
            except UserError as error:
                if not self._stopped:
                    self._failed.append(f"{member.label}: {error}")
                    self._tell(self._failed[-1])
            finally:
                with self._lock:
                    del self._now[core]
                    self._left -= 1

    def _run(self, core: int, member: Member) -> None:
        cell = member.cell
        with held(folder_of(cell)):
            self._train(core, member)
            if not done(self._table, cell):
                self._command(core, cell, eval_command(cell, checkpoint_of(cell)))
            if not done(self._table, cell):
                raise UserError(
                    "Its evaluation ended, and the table lacks episodes.", "Run it again."
                )
            if measured(cell) is None:
                self._command(core, cell, measure_command(cell))

    def _train(self, core: int, member: Member) -> None:
        cell = member.cell
        # The account is written last, once what was trained was checked. A shipped one says nothing
        # of what lies here.
        if (folder_of(cell) / FILE).is_file() and checkpoint_of(cell).is_dir():
            return
        step = folder_of(cell.step) / RUN if cell.step else None
        sharing = self._making.setdefault(step, threading.Lock()) if step else nullcontext()
        found = train(
            cell,
            member.label,
            self._data,
            folder_of(cell) / RUN,
            lambda words: self._command(core, cell, words),
            step,
            sharing,
        )
        keep_account(cell, found)

    def _command(self, core: int, cell: Cell, words: Sequence[str]) -> None:
        """Carries a command out on a core; what it prints goes to the cell's log."""
        log = folder_of(cell) / LOG
        with open(log, "ab") as out:
            out.write(f"\nvlm4vla {' '.join(words)}\n".encode())
            out.flush()
            with self._lock:
                if self._stopped:
                    raise UserError("It was stopped.")
                process = subprocess.Popen(
                    pinned.argv(core, self._module, words),
                    env=dict(pinned.environment()),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
                self._processes[core] = process
            code = process.wait()
        if code:
            said = last_line(log).rstrip(".")
            raise UserError(f"`vlm4vla {words[0]}` ended with {code}: {said}.", f"See {log}.")

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._processes.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)

    def _progress(self) -> str:
        now = "; ".join(
            f"core {core}: {member.label}: {last_line(folder_of(member.cell) / LOG)[:_SHOWN]}"
            for core, member in sorted(self._now.copy().items())
        )
        return f"{self._left} cells to do{self._remaining()}. {now}"

    def _remaining(self) -> str:
        if not self._seconds:
            return ""
        each = sum(self._seconds) / len(self._seconds)
        minutes = each * self._left / len(self._cores) / 60
        return f", about {minutes:.0f} min"


def train(
    cell: Cell,
    label: str,
    data: Path,
    run: Path,
    command: Callable[[Sequence[str]], None],
    step_run: Path | None = None,
    sharing: AbstractContextManager[object] = _ALONE,
) -> dict[str, Any]:
    """Trains a cell's policy, and before it the VLM of its step, unless they are there.

    Args:
        cell: the cell.
        label: what it is called.
        data: the training cache.
        run: the folder of the policy's run.
        command: carries out the words after `vlm4vla`.
        step_run: the folder of the step's run; None for a cell without a step.
        sharing: held while the VLM is made.

    Returns:
        What `check_trained` found.

    Raises:
        UserError: a command failed, or something else was trained than the cell says.
    """
    step = vlm = None
    if cell.step is not None and step_run is not None:
        vlm = step_run / VLM
        with sharing:
            if not vlm.is_dir():
                command(step_command(cell.step, data, step_run))
        step = check_step(cell.step, step_run)
    if not (run / CHECKPOINT).is_dir():
        command(train_command(cell, data, run, vlm=vlm))
    return check_trained(cell, run, label, step)


def last_line(log: Path) -> str:
    """What a log said last; "" where there is none."""
    try:
        with open(log, "rb") as content:
            content.seek(max(0, log.stat().st_size - _TAIL))
            text = content.read().decode(errors="replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(re.split(r"[\r\n]", text)) if line.strip()), "")
