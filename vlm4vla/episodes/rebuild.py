"""Makes a table again: from what can still be read of the old one, and from the log."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla.episodes.database import NewerVersionError
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.log import Log, entry_from_json
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.episodes.table import FILE, EpisodeTable, entry_of
from vlm4vla.errors import UserError

_BESIDE: Final = ("", "-wal", "-shm")
"""What SQLite appends to the names of a database's files."""


_ODD_LINE: Final = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    sqlite3.ProgrammingError,
    sqlite3.IntegrityError,
)
"""What a line of the log that holds other values than ours may raise, in us or in SQLite."""


class Rebuilt(NamedTuple):
    """What became of a table.

    Attributes:
        saved: episodes that could be read from the old file.
        logged: lines of the log that were carried out.
        lost: episodes of the old file, and lines of the log, that could not be read.
        aside: where the old file is now; None if there was none.
    """

    saved: int
    logged: int
    lost: int
    aside: Path | None


class Replayed(NamedTuple):
    """What a log held.

    Attributes:
        done: lines that were carried out.
        lost: lines that could not be read, and labels of episodes that are nowhere.
        pinned: ids of the films that are kept for ever.
    """

    done: int
    lost: int
    pinned: frozenset[str]


def rebuild(table: EpisodeTable, films: Films | None = None) -> Rebuilt:
    """Makes a table again beside the old one, which is moved aside and never deleted.

    Other processes that use the table must be stopped: what they write meanwhile stays in the old
    file.

    Args:
        table: which to make again; from its log, too, if it has one.
        films: whose account is part of the table.

    Raises:
        UserError: a newer version wrote the table, or the disk is full or not writable. The old
            file is where it was then.
    """
    path = table.database.path
    assert path is not None, "a table in memory has no file"
    with _workshop(path.parent) as shop:
        fresh = EpisodeTable(shop / "new")
        with fresh.database.writing():
            pass  # a table without episodes is a table
        saved, lost, pinned = (0, 0, set[str]())
        if table.database.exists:
            saved, lost, pinned = _save(path, shop / "old", fresh)
        logged = Replayed(0, 0, frozenset())
        if table.log:
            logged = replay(table.log, fresh)
            fresh.mark_imported(mark_of(table.log), table.log.path.name)
        fresh.database.gather()
        fresh.close()
        table.close()
        aside = _move_aside(path) if path.exists() else None
        try:
            # A link and not a move: it replaces nothing.
            os.link(shop / "new" / FILE, path)
        except FileExistsError as error:
            raise UserError(
                f"Another process made a new table while this one was made again; the old one is "
                f"{aside}.",
                f"Stop what uses the table, move the old one back to {path} and run this again.",
            ) from error
        except OSError:
            # A disk that links nothing: the name is free, as nobody else may use the table now.
            os.replace(shop / "new" / FILE, path)
    if films:
        films.reconcile(pinned | logged.pinned)
    return Rebuilt(saved, logged.done, lost + logged.lost, aside)


def mark_of(log: Log) -> str:
    """What a table remembers that it holds a log by."""
    return f"log {log.path}"


def replay(log: Log, table: EpisodeTable) -> Replayed:
    """Carries the lines of a log out on a table; nothing is logged again.

    An episode that the table holds already, and no older, only gains memberships and labels.

    Raises:
        UserError: see `Log.read` and `EpisodeTable.put_all`.
    """
    silent = table.without_log()
    done, lost, pinned = 0, 0, set[str]()
    for line in log.read():
        try:
            if line["what"] == "episode":
                _put(silent, entry_from_json(line))
            elif line["what"] == "pinned":
                pinned.add(line["id"])
            elif line["id"] in silent:
                _carry_out(silent, line)
            elif line["what"] == "label":
                lost += 1
                continue
            done += 1
        except _ODD_LINE:
            lost += 1
    return Replayed(done, lost, frozenset(pinned))


def _put(table: EpisodeTable, entry: Entry) -> None:
    key = entry.episode.id
    if key in table.known([key]) and table.row(key).created >= entry.created:
        table.put_new([entry])
    else:
        table.put_all([entry])


def _carry_out(table: EpisodeTable, line: dict[str, Any]) -> None:
    if line["what"] == "label":
        said = Label(line["label"], line["who"], line["note"], line["created"])
        table.label(line["id"], said.label, said.who, said.note, created=said.created)
    elif line["what"] == "joined":
        table.join(line["id"], *(Membership(*one) for one in line["memberships"]))
    elif line["what"] == "dropped" and table.row(line["id"]).created <= line["created"]:
        table.drop(line["id"])


def _save(path: Path, copies: Path, fresh: EpisodeTable) -> tuple[int, int, set[str]]:
    """Takes over what can be read of a copy of the old file, which itself is not opened."""
    copies.mkdir()
    for end in _BESIDE:
        if path.with_name(path.name + end).exists():
            shutil.copyfile(path.with_name(path.name + end), copies / (FILE + end))
    old = EpisodeTable(copies)
    try:
        with old.database.writing():
            pass  # brings the copy up to date
    except NewerVersionError:
        raise
    except UserError:
        return 0, 0, set()  # nothing in it can be read, or it is another program's
    saved, lost = 0, 0
    with contextlib.closing(sqlite3.connect(copies / FILE)) as db:
        db.row_factory = sqlite3.Row
        for row in sorted(_rows(db)):
            try:
                entry = _read(db, row)
            except (sqlite3.Error, UserError, KeyError, TypeError, ValueError):
                lost += 1
                continue
            fresh.put_all([entry])
            saved += 1
        try:
            pinned = {one["id"] for one in db.execute("SELECT id FROM films WHERE pinned = 1")}
        except sqlite3.DatabaseError:
            pinned = set()
    old.close()
    return saved, lost, pinned


def _read(db: sqlite3.Connection, row: int) -> Entry:
    return entry_of(db, db.execute("SELECT * FROM episodes WHERE row = ?", (row,)).fetchone())


def _rows(db: sqlite3.Connection) -> set[int]:
    """The numbers of all rows that can be found, from both sides of a damaged page."""
    found: set[int] = set()
    for question in (
        "SELECT row FROM episodes NOT INDEXED ORDER BY row",
        "SELECT row FROM episodes NOT INDEXED ORDER BY row DESC",
        "SELECT row FROM episodes INDEXED BY newest",
        "SELECT row FROM arrays ORDER BY row",
    ):
        with contextlib.suppress(sqlite3.DatabaseError):
            for (row,) in db.execute(question):
                found.add(row)
    return found


def _move_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}-old-{number}{path.suffix}")).exists():
        number += 1
    for end in _BESIDE:
        if path.with_name(path.name + end).exists():
            os.replace(path.with_name(path.name + end), aside.with_name(aside.name + end))
    return aside


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A folder for a moment, on the same disk as the table."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".rebuild-") as shop:
            yield Path(shop)
    except OSError as error:
        raise UserError(
            f"The table of episodes in {folder} could not be made again: "
            f"{error.strerror or error}.",
            "Free some disk space, or check the folder's permissions.",
        ) from error
