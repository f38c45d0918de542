"""The table of episodes: one row an episode, whoever acted and whichever door it came through."""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from vlm4vla import paths
from vlm4vla.core.episode import Episode
from vlm4vla.episodes.arrays import pack
from vlm4vla.episodes.database import Database
from vlm4vla.episodes.filters import (
    DRAWN,
    EVERYTHING,
    ORDERS,
    Filter,
    Membership,
    Order,
    mask_of,
)
from vlm4vla.episodes.log import Log, entry_to_json
from vlm4vla.episodes.rows import COLUMNS, STOPPED, Entry, Label, Row, episode_of, row_of, values_of
from vlm4vla.errors import UserError

FILE: Final = "episodes.sqlite"

_MOST_VALUES: Final = 500
"""Values in one statement."""


class EpisodeTable:
    """The table of episodes. Making one opens nothing, and a table that is absent reads as empty.

    May be shared by threads; several processes may open the same folder.

    Args:
        folder: where its file is; None for the local folder's `table`.
        log: also append here what no run would bring back; None for the data folder's own if
            `folder` is None, else for no log.
    """

    def __init__(self, folder: Path | None = None, *, log: Path | None = None) -> None:
        if folder is None:
            log = log or paths.home() / "episodes.jsonl"
        self.database = Database((folder or paths.local() / "table") / FILE)
        self.log = Log(log) if log else None

    @classmethod
    def in_memory(cls) -> "EpisodeTable":
        """A table that ends with this object."""
        table = cls(Path())
        table.database = Database(None)
        return table

    def without_log(self) -> "EpisodeTable":
        """The same table, whose changes are not logged: for what comes out of the log."""
        table = EpisodeTable(Path())
        table.database = self.database
        return table

    def put(
        self,
        episode: Episode,
        memberships: Sequence[Membership] = (),
        *,
        legacy_id: str = "",
        created: float = 0.0,
    ) -> str:
        """Keeps an episode and returns its id; see `put_all`."""
        self.put_all([Entry(episode, tuple(memberships), legacy_id, created)])
        return episode.id

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Keeps episodes in one transaction.

        One with the same id is replaced and keeps its memberships, labels and legacy id. An
        episode that a person stopped replaces none that came to its end.

        Raises:
            UserError: the disk is full or not writable; none of them is kept then, and nothing
                that was written before is lost.
        """
        with self.database.writing() as db:
            for entry in entries:
                created = entry.created or entry.episode.times.began or time.time()
                dated = entry._replace(created=created)
                if _put(db, dated) and entry.episode.source == "live":
                    self._append("episode", **entry_to_json(dated))

    def put_new(self, entries: Sequence[Entry]) -> int:
        """Keeps the episodes that the table does not hold; how many those were.

        One that it holds stays as it is, with the entry's memberships and labels added.

        Raises:
            UserError: see `put_all`.
        """
        known = self.known(one.episode.id for one in entries)
        new = {one.episode.id: one for one in entries if one.episode.id not in known}
        self.put_all(new.values())
        with self.database.writing() as db:
            for one in entries:
                if one.episode.id in known:
                    row = self._found(db, one.episode.id)["row"]
                    _join(db, row, one.memberships)
                    _label(db, row, one.labels)
                    _settle(db, one.episode.request_id)
        return len(new)

    def get(self, key: str) -> Episode:
        """The whole episode of an id or of a legacy id.

        Raises:
            UserError: there is none, or its arrays are damaged.
        """
        with self.database.reading() as db:
            return _episode(db, self._found(db, key))

    def row(self, key: str) -> Row:
        """The row of an id or of a legacy id.

        Raises:
            UserError: there is none.
        """
        with self.database.reading() as db:
            return row_of(self._found(db, key))

    def query(
        self,
        wanted: Filter = EVERYTHING,
        *,
        order: Order = "newest",
        limit: int = 100,
    ) -> list[Row]:
        """Rows in an order.

        Args:
            wanted: which.
            order: by what.
            limit: at most so many.
        """
        where, values = wanted.sql()
        column, direction = ORDERS[order]
        with self.database.reading() as db:
            found = db.execute(
                f"SELECT * FROM episodes WHERE {where} "
                f"ORDER BY {column} {direction}, id {direction} LIMIT ?",
                [*values, limit],
            ).fetchall()
        return [row_of(one) for one in found]

    def count(self, wanted: Filter = EVERYTHING) -> int:
        """How many episodes there are."""
        where, values = wanted.sql()
        with self.database.reading() as db:
            return int(
                db.execute(f"SELECT count(*) FROM episodes WHERE {where}", values).fetchone()[0]
            )

    def __contains__(self, key: str) -> bool:
        with self.database.reading() as db:
            return bool(db.execute("SELECT 1 FROM episodes WHERE id = ?", (key,)).fetchone())

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of some ids whose episodes are stored and came to their end."""
        found, asked = set[str](), list(ids)
        with self.database.reading() as db:
            for start in range(0, len(asked), _MOST_VALUES):
                some = asked[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(some))
                found.update(
                    one["id"]
                    for one in db.execute(
                        f"SELECT id FROM episodes WHERE id IN ({marks}) AND outcome <> ?",
                        [*some, STOPPED],
                    )
                )
        return found

    def entries(self, wanted: Filter = EVERYTHING) -> Iterator[Entry]:
        """Whole episodes with all that is known about them, in the order they were first put.

        Raises:
            UserError: the arrays of one are damaged.
        """
        where, values = wanted.sql()
        last = 0
        while True:
            with self.database.reading() as db:
                found = db.execute(
                    f"SELECT * FROM episodes WHERE {where} AND row > ? ORDER BY row LIMIT ?",
                    [*values, last, _MOST_VALUES],
                ).fetchall()
                some = [entry_of(db, one) for one in found]
            yield from some
            if not found:
                return
            last = found[-1]["row"]

    def memberships(self, key: str) -> list[Membership]:
        """Where an episode belongs.

        Raises:
            UserError: there is no such episode.
        """
        with self.database.reading() as db:
            return list(_memberships(db, self._found(db, key)["row"]))

    def join(self, key: str, *memberships: Membership) -> None:
        """Adds memberships to a stored episode.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        with self.database.writing() as db:
            found = self._found(db, key)
            _join(db, found["row"], memberships)
            _settle(db, found["request_id"])
            if found["source"] == "live":
                self._append(
                    "joined", id=found["id"], memberships=[list(one) for one in memberships]
                )

    def drop(self, key: str) -> None:
        """Deletes an episode with its memberships and labels.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        with self.database.writing() as db:
            found = self._found(db, key)
            db.execute("DELETE FROM episodes WHERE row = ?", (found["row"],))
            _settle(db, found["request_id"])
            self._append("dropped", id=found["id"], created=time.time())

    def label(
        self, key: str, label: str, who: str, note: str = "", *, created: float = 0.0
    ) -> None:
        """Adds a person's label beside the automatic outcome; their last one counts.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        said = Label(label, who, note, created or time.time())
        with self.database.writing() as db:
            found = self._found(db, key)
            if self.log and found["source"] != "live":
                # The log would else hold a label of an episode that it may not hold.
                self._append("episode", **entry_to_json(entry_of(db, found)))
            _label(db, found["row"], [said])
            self._append("label", id=found["id"], **said._asdict())

    def labels(self, key: str, *, all_of_them: bool = False) -> list[Label]:
        """The labels of an episode, oldest first: the last of every person, or all of them.

        Raises:
            UserError: there is no such episode.
        """
        with self.database.reading() as db:
            labels = _labels(db, self._found(db, key)["row"])
        if all_of_them:
            return list(labels)
        last = {one.who: place for place, one in enumerate(labels)}
        return [labels[place] for place in sorted(last.values())]

    def keys_of_legacy(self, legacy_id: str) -> list[str]:
        """Ids of the episodes that an earlier version knew by one id, newest first."""
        with self.database.reading() as db:
            found = db.execute(
                "SELECT id FROM episodes WHERE legacy_id = ? AND legacy_id <> '' "
                "ORDER BY created DESC",
                (legacy_id,),
            ).fetchall()
        return [one["id"] for one in found]

    def imported(self, mark: str) -> bool:
        """Whether something was brought in and marked; see `mark_imported`."""
        with self.database.reading() as db:
            return bool(db.execute("SELECT 1 FROM imports WHERE mark = ?", (mark,)).fetchone())

    def mark_imported(self, mark: str, name: str) -> None:
        """Remembers that something was brought in, so that it is not brought in again.

        Args:
            mark: what it is known by, such as a hash of its content.
            name: what it was called, for people.

        Raises:
            UserError: see `put_all`.
        """
        with self.database.writing() as db:
            db.execute("INSERT OR REPLACE INTO imports VALUES (?, ?, ?)", (mark, name, time.time()))

    def close(self) -> None:
        """Closes the connections; a later use opens new ones."""
        self.database.close()

    def _found(self, db: sqlite3.Connection, key: object) -> sqlite3.Row:
        # Keys come from addresses and programs: anything, or text that cannot be written down.
        key = key.encode("utf-8", "replace").decode() if isinstance(key, str) else ""
        found = db.execute("SELECT * FROM episodes WHERE id = ?", (key,)).fetchone()
        if found is None and key:
            # Earlier ids left the condition out, so several episodes may share one.
            found = db.execute(
                "SELECT * FROM episodes WHERE legacy_id = ? ORDER BY created DESC LIMIT 1", (key,)
            ).fetchone()
        if found is None:
            raise UserError(
                "There is no such stored episode.", "It may have been dropped: run it again."
            )
        return found

    def _append(self, what: str, **line: Any) -> None:
        # Within the transaction: its lock keeps two processes' lines apart.
        if self.log:
            self.log.append(what, line)


_KEPT: Final = {
    "id": "excluded.id",
    "legacy_id": "coalesce(nullif(excluded.legacy_id, ''), legacy_id)",
    "belongs": "belongs | excluded.belongs",
    "current": "current",
}
"""What becomes of a column when its episode is put again; the others are replaced."""

_UPSERT: Final = (
    f"INSERT INTO episodes ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = {_KEPT.get(name, f'excluded.{name}')}" for name in COLUMNS)
    + f" WHERE excluded.outcome <> '{STOPPED}' OR outcome = '{STOPPED}' RETURNING row"
)


def _put(db: sqlite3.Connection, entry: Entry) -> bool:
    """Whether the episode was kept."""
    values = values_of(entry)
    written = db.execute(_UPSERT, [values[name] for name in COLUMNS]).fetchall()
    if not written:
        return False
    row = written[0][0]
    db.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?)", (row, pack(entry.episode)))
    db.execute("DELETE FROM automatic_labels WHERE row = ?", (row,))
    _join(db, row, entry.memberships, known=True)
    _label(db, row, entry.labels)
    _settle(db, values["request_id"])
    return True


def _join(
    db: sqlite3.Connection, row: int, memberships: Sequence[Membership], *, known: bool = False
) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO memberships VALUES (?, ?, ?)",
        [(row, one.kind, one.name) for one in memberships],
    )
    if not known:
        db.execute(
            "UPDATE episodes SET belongs = belongs | ? WHERE row = ?", (mask_of(memberships), row)
        )


def _label(db: sqlite3.Connection, row: int, labels: Sequence[Label]) -> None:
    # The same label of the same moment is the same one, come in by another way.
    db.executemany(
        "INSERT OR IGNORE INTO labels (row, label, who, note, created) VALUES (?, ?, ?, ?, ?)",
        [(row, *one) for one in labels],
    )


def _memberships(db: sqlite3.Connection, row: int) -> tuple[Membership, ...]:
    found = db.execute(
        "SELECT kind, name FROM memberships WHERE row = ? ORDER BY kind, name", (row,)
    )
    return tuple(Membership(*one) for one in found)


def _labels(db: sqlite3.Connection, row: int) -> tuple[Label, ...]:
    found = db.execute(
        "SELECT label, who, note, created FROM labels WHERE row = ? ORDER BY created, number",
        (row,),
    )
    return tuple(Label(*one) for one in found)


def _episode(db: sqlite3.Connection, found: sqlite3.Row) -> Episode:
    content = db.execute("SELECT content FROM arrays WHERE row = ?", (found["row"],)).fetchone()
    return episode_of(row_of(found), content[0] if content else None)


def entry_of(db: sqlite3.Connection, found: sqlite3.Row) -> Entry:
    """Everything that a table knows about an episode, from its columns.

    Raises:
        UserError: its arrays are damaged.
    """
    return Entry(
        _episode(db, found),
        _memberships(db, found["row"]),
        found["legacy_id"],
        found["created"],
        _labels(db, found["row"]),
    )


def _settle(db: sqlite3.Connection, request_id: str) -> None:
    """Marks the newest finished episode of a request as the one that counts.

    One that belongs to a set of drawn scenes goes before all others: whoever looks at a scene of an
    evaluation once more, perhaps with other versions, takes nothing out of it.
    """
    found = db.execute(
        "SELECT row, current, outcome FROM episodes WHERE request_id = ? "
        "ORDER BY belongs & ? <> 0 DESC, created DESC, row DESC",
        (request_id, DRAWN),
    ).fetchall()
    newest = next((one["row"] for one in found if one["outcome"] != STOPPED), None)
    for one in found:
        if one["current"] != (one["row"] == newest):
            db.execute(
                "UPDATE episodes SET current = ? WHERE row = ?",
                (int(one["row"] == newest), one["row"]),
            )
