"""A run: where a stage writes, what it is told, and that nobody else trains there meanwhile."""

import contextlib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from vlm4vla.errors import UserError
from vlm4vla.files import held
from vlm4vla.model.load import accelerator

_More = ParamSpec("_More")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Run:
    """What every stage is told about its run.

    Attributes:
        folder: where everything of the run is written.
        check_every: steps between measurements on unseen scenes, 0 for only at the end.
        track: project name for trackio, or None.
        device: "cpu", "cuda", or None for the accelerator if there is one.
        compiled: compile the language model's layers, which takes a minute and gives a fifth more
            samples a second afterwards.
        workers: processes that prepare batches; None for one a core beside this one where an
            accelerator does the rest, and none elsewhere.
        start: what its policy starts from, as `identity_of` names it.
    """

    folder: Path
    check_every: int = 0
    track: str | None = None
    device: str | None = None
    compiled: bool = False
    workers: int | None = None
    start: str = ""

    @property
    def preparing(self) -> int:
        """How many processes prepare batches."""
        if self.workers is not None:
            return self.workers
        if (self.device or accelerator()) == "cpu":
            return 0
        return max(1, (os.cpu_count() or 1) - 1)


def alone(run: Run) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out of a run's folder.

    Of the processes that `accelerate launch` starts, the first one writes, and holds it for all.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    return held(run.folder) if first else contextlib.nullcontext()


def require_one_process(stage: str) -> None:
    """Refuses a stage that several processes cannot divide, before any of them begins it.

    Args:
        stage: as `vlm4vla train` calls it.

    Raises:
        UserError: `accelerate launch` started several.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise UserError(
            f"`vlm4vla train {stage}` trains in one process, and {count} were started.",
            "Start it without `accelerate launch`, which language, grounding, tokens and imitation "
            "can be started with, one at a time.",
        )


def one_at_a_time(
    begin: Callable[Concatenate[Run, _More], _Result],
) -> Callable[Concatenate[Run, _More], _Result]:
    """A way of running whose folder is its own, whoever calls it."""

    @functools.wraps(begin)
    def begun(run: Run, /, *args: _More.args, **kwargs: _More.kwargs) -> _Result:
        with alone(run):
            return begin(run, *args, **kwargs)

    return begun
