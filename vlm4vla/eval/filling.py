"""The filling of a table with what came before: earlier versions' episodes and shipped results.

It takes minutes of a core, so it goes on file by file in a process of its own: whoever looks at the
table meanwhile finds what has come so far, with its labels.
"""

import os
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from vlm4vla import paths
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.parquet import import_, pending
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.errors import UserError
from vlm4vla.eval.labelling import label_missing
from vlm4vla.workers.child import Child

_TIMEOUT: Final = 1800.0
"""Seconds that one file may take on the slowest machine."""

_NICE: Final = 10
"""Simulators and policies that somebody waits for go first."""


class Filling:
    """A table that is being filled, and how far it is.

    Args:
        shipped: folder of exported tables.
    """

    def __init__(self, shipped: Path = SHIPPED) -> None:
        self._shipped = shipped
        self._count = self._left = len(pending(Archive.open().table, shipped))

    def progress(self) -> tuple[int, int] | None:
        """Files of shipped results that were read, and of how many; None where none is left."""
        return (self._count - self._left, self._count) if self._left else None

    def carry_out(self) -> None:
        """Fills the table in a child process; returns when it is whole or cannot become so.

        Raises:
            UserError: the disk is full or not writable, or something is damaged.
        """
        remedy = "Start the app again: it goes on where it stopped."
        try:
            make = partial(_Filler, self._shipped)
            with closing(Child(make, "reading of episodes", remedy, _TIMEOUT)) as child:
                while left := child.call("next"):
                    self._left = left
        finally:
            self._left = 0


class _Filler:
    """Fills the table part by part, in the process that it was made in."""

    def __init__(self, shipped: Path) -> None:
        with suppress(OSError, AttributeError):
            os.nice(_NICE)
        archive = Archive.open()
        self._table = archive.table
        prepare(self._table, archive.films, legacy=paths.home())
        # Evaluations come before grids and studies, since pages open on them.
        self._left = sorted(pending(self._table, shipped), key=_place)
        self._damaged: UserError | None = None

    def next(self) -> int:
        """Brings one file in, labels what has no label, and says how many files are left.

        A damaged file keeps the others from nothing; what is wrong with it is said in the end.

        Raises:
            UserError: see `Filling.carry_out`.
        """
        if self._left:
            path, mark = self._left.pop(0)
            try:
                import_(path, self._table)
                self._table.mark_imported(mark, path.name)
            except UserError as error:
                self._damaged = self._damaged or error
        label_missing(self._table)
        if self._damaged and not self._left:
            raise self._damaged
        return len(self._left)


def _place(shipped: tuple[Path, str]) -> tuple[bool, int]:
    path, _ = shipped
    return path.name.startswith("cell-"), path.stat().st_size
