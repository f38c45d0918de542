"""The rows of an evaluation on disk: one line an episode, safe against being killed."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vlm4vla.errors import UserError
from vlm4vla.eval.trial import Condition, Trial
from vlm4vla.files import write_json
from vlm4vla.suites.tabletop.instructions import Task

_PLAN: Final = "evaluation.json"
_ROWS: Final = "episodes.jsonl"


@dataclass(frozen=True)
class Plan:
    """What an evaluation is about; a folder holds the rows of one plan.

    Attributes:
        checkpoint: hash of the checkpoint, or "expert".
        first_seed: seed of each task's first episode.
        episodes: episodes of each task.
        condition: what is asked for.
    """

    checkpoint: str
    first_seed: int
    episodes: int
    condition: Condition

    @property
    def seeds(self) -> range:
        """The seeds of each task."""
        return range(self.first_seed, self.first_seed + self.episodes)


class Rows:
    """An evaluation's folder.

    Args:
        folder: where; made if it does not exist.
        plan: what the rows belong to.

    Raises:
        UserError: the folder holds the rows of another plan, or cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.file = folder / _ROWS
        self._plan = plan
        stored = folder / _PLAN
        if stored.exists():
            self._check(json.loads(stored.read_text("utf-8")), folder)
        elif self.file.exists():
            raise UserError(f"{self.file} belongs to no evaluation.", "Choose another folder.")
        else:
            write_json(stored, asdict(plan))

    def _check(self, found: dict[str, Any], folder: Path) -> None:
        for name, value in asdict(self._plan).items():
            if found.get(name) != value:
                raise UserError(
                    f"{folder} holds an evaluation with {name} {found.get(name)}, not {value}.",
                    "Choose another folder.",
                )

    def read(self) -> list[Trial]:
        """The episodes so far; a line that was cut off by a crash is dropped from the file."""
        if not self.file.exists():
            return []
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.file, len(whole))
        return [_trial(json.loads(line)) for line in whole.splitlines()]

    def append(self, trial: Trial) -> None:
        """Adds an episode; it is on disk when this returns.

        Raises:
            UserError: the disk is full or not writable; earlier rows are intact.
        """
        row = {"checkpoint": self._plan.checkpoint, **asdict(trial)}
        try:
            with open(self.file, "ab") as rows:
                rows.write(json.dumps(row).encode() + b"\n")
                rows.flush()
                os.fsync(rows.fileno())
        except OSError as error:
            raise UserError(
                f"Could not write {self.file}: {error.strerror}.",
                "Free some disk space and run the same command again: it goes on where it stopped.",
            ) from error

    def missing(self, task: Task, done: Sequence[Trial]) -> list[int]:
        """Seeds of a task that have no row yet."""
        have = {trial.seed for trial in done if trial.task == task}
        return [seed for seed in self._plan.seeds if seed not in have]


def _trial(row: dict[str, Any]) -> Trial:
    events = tuple((step, event) for step, event in row["events"])
    own = {name: value for name, value in row.items() if name != "checkpoint"}
    return Trial(**{**own, "events": events})
