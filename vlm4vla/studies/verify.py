"""Verifying a cell: trained once more, and its episodes compared with those of the table."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import held, write_json
from vlm4vla.statistics import Rate, wilson
from vlm4vla.studies.cell import Cell, eval_command
from vlm4vla.studies.run import train
from vlm4vla.studies.status import Found, Scene, episodes_of
from vlm4vla.studies.trained import CHECKPOINT, RUN, folder_of

FOLDER: Final = "verified"
"""Below the cell's own folder."""

STEP: Final = "step"
"""Below that, the run of the cell's step."""

OVER: Final = "verdict.json"
"""Below that, written last."""


class Task(NamedTuple):
    """A task of a cell, then and now."""

    then: Rate
    now: Rate

    @property
    def within(self) -> bool:
        """Whether the new rate lies in the old one's interval."""
        return self.then.low <= self.now.rate <= self.then.high


class Verdict(NamedTuple):
    """What a second training of a cell gave.

    Attributes:
        same: scenes whose episodes are equal, step by step and action by action.
        n: scenes.
        tasks: rates of the tasks.
    """

    same: int
    n: int
    tasks: Mapping[str, Task]

    @property
    def verified(self) -> bool:
        """Whether the episodes are the same, or every rate lies in its interval."""
        return self.same == self.n or all(task.within for task in self.tasks.values())

    def sentence(self) -> str:
        """The verdict."""
        if self.same == self.n:
            return f"All {self.n} episodes are identical."
        told = "; ".join(
            f"{name} {task.now.successes} of {task.now.n}, "
            f"{'within' if task.within else 'OUTSIDE'} {100 * task.then.low:.0f} to "
            f"{100 * task.then.high:.0f} % ({task.then.successes} of {task.then.n})"
            for name, task in self.tasks.items()
        )
        return f"{self.same} of {self.n} episodes are identical. {told}."


def verify(
    table: EpisodeTable, cell: Cell, label: str, data: Path, command: Callable[[Sequence[str]], int]
) -> Verdict:
    """Trains a cell again, with its step, evaluates it into a table of its own, and compares.

    It can be stopped, and goes on where it stopped. What came out stays until the next call, which
    trains once more.

    Args:
        table: holds the cell's episodes.
        cell: the cell.
        label: what it is called.
        data: the training cache.
        command: carries out the words after `vlm4vla` and returns the exit code.

    Raises:
        UserError: the table lacks episodes of the cell, a command failed, or something else was
            trained than the cell says.
    """
    then = episodes_of(table, cell)
    if len(then.rows) < cell.expected:
        raise UserError(
            f"{label} has {len(then.rows)} of {cell.expected} episodes, so there is nothing to "
            "compare with.",
            "Run the cell first.",
        )
    folder = folder_of(cell) / FOLDER
    own = folder / "table"
    with held(folder):
        if (folder / OVER).is_file():
            for part in (RUN, STEP, own.name):
                shutil.rmtree(folder / part, ignore_errors=True)
            (folder / OVER).unlink()
        step = folder / STEP if cell.step else None
        train(cell, label, data, folder / RUN, partial(_carry_out, command), step)
        words = [*eval_command(cell, folder / RUN / CHECKPOINT), "--out", str(own)]
        _carry_out(command, words)
        again = EpisodeTable(own)
        now = episodes_of(again, cell)
        same = sum(
            _equal(table, again, row.id, now.rows[scene].id)
            for scene, row in then.rows.items()
            if scene in now.rows
        )
        tasks = {task: Task(_rate(then, task), _rate(now, task)) for task in cell.tasks}
        verdict = Verdict(same, len(then.rows), tasks)
        write_json(folder / OVER, {"sentence": verdict.sentence()})
    return verdict


def _carry_out(command: Callable[[Sequence[str]], int], words: Sequence[str]) -> None:
    if code := command(words):
        raise UserError(f"`vlm4vla {words[0]}` ended with {code}.", "The same command goes on.")


def _equal(table: EpisodeTable, other: EpisodeTable, key: str, again: str) -> bool:
    a, b = table.get(key), other.get(again)
    alike = (a.spec, a.outcome, a.steps, a.events) == (b.spec, b.outcome, b.steps, b.events)
    return alike and a.actions.tobytes() == b.actions.tobytes()


def _rate(found: Found, task: str) -> Rate:
    scenes: dict[Scene, bool] = {
        scene: row.outcome.success for scene, row in found.rows.items() if scene[0] == task
    }
    return wilson(sum(scenes.values()), len(scenes))
