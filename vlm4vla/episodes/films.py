"""Films of episodes: files beside the table, the oldest of which make room for new ones."""

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from vlm4vla import files, paths
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

LIMIT_BYTES: Final = 2 * 2**30

_ID: Final = re.compile(r"[0-9a-f]{16}")
_SUFFIX: Final = ".mp4"
_SEEN: Final = "seen"


class Films:
    """The films of a table's episodes. A film that goes takes no row with it.

    Args:
        table: which holds the account of them.
        folder: where the files are; None for the data folder's `films`.
        limit_bytes: most that all films together may take; pinned ones are never dropped.
    """

    def __init__(
        self, table: EpisodeTable, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self.folder = folder or paths.home() / "films"
        self._table = table
        self._limit = limit_bytes

    def put(self, key: str, film: bytes, *, created: float = 0.0) -> None:
        """Keeps the film of an episode; one that is there is replaced and stays pinned.

        Args:
            key: the episode's id.
            film: MP4 of the whole episode.
            created: seconds since the epoch; 0 for now.

        Raises:
            UserError: the disk is full or not writable; nothing kept before is lost.
        """
        with files.replacing(self._path(key)) as temporary:
            temporary.write_bytes(film)
        self._account(key, len(film), created or time.time())

    def path(self, key: str) -> Path | None:
        """The film of an episode, or None if there is none."""
        named = _ID.fullmatch(key)
        film = self._path(key) if named else None
        return film if film and film.is_file() else None

    def seen(self, key: str) -> Path | None:
        """The film of what the policy's camera saw, or None: recordings of the app have one."""
        film = self.seen_path(key)
        return film if film.is_file() else None

    def seen_path(self, key: str) -> Path:
        """Where the film of what the policy's camera saw belongs; no account is kept of these."""
        return self._path(key, self.folder / _SEEN)

    def pin(self, key: str) -> None:
        """Keeps a film for ever.

        Raises:
            UserError: there is no such film.
        """
        with self._table.database.writing() as db:
            changed = db.execute("UPDATE films SET pinned = 1 WHERE id = ?", (key,)).rowcount
            if not changed:
                raise UserError("There is no film of this episode.", "Run it again.")
            if self._table.log:
                self._table.log.append("pinned", {"id": key})

    def pinned(self) -> list[str]:
        """Ids of the episodes whose films are kept for ever, oldest first."""
        with self._table.database.reading() as db:
            found = db.execute("SELECT id FROM films WHERE pinned = 1 ORDER BY created").fetchall()
        return [one["id"] for one in found]

    @property
    def total_bytes(self) -> int:
        """What all films take together."""
        with self._table.database.reading() as db:
            return int(db.execute("SELECT bytes FROM film_total").fetchone()[0])

    def drop(self, key: str) -> None:
        """Deletes a film; the episode stays. Nothing happens if there is none."""
        with self._table.database.writing() as db:
            self._remove(db, key)

    def link(self, key: str, film: Path, *, pinned: bool = False) -> None:
        """Keeps a film that lies elsewhere on the disk, without copying it where that is possible.

        Args:
            key: the episode's id.
            film: the file, which stays where it is; its age is kept.
            pinned: keep it for ever.

        Raises:
            UserError: see `put`.
        """
        with files.replacing(self._path(key)) as temporary:
            temporary.unlink()
            try:
                os.link(film, temporary)
            except OSError:  # another disk, or one without hard links
                shutil.copy2(film, temporary)
        status = film.stat()
        self._account(key, status.st_size, status.st_mtime)
        if pinned:
            self.pin(key)

    def reconcile(self, pinned: Collection[str] = ()) -> None:
        """Brings the account in line with the folder, as after a rebuild of the table.

        Args:
            pinned: films that are kept for ever, besides those that the account knows of.

        Raises:
            UserError: see `put`.
        """
        with self._table.database.reading() as db:
            known = {one["id"]: one["bytes"] for one in db.execute("SELECT id, bytes FROM films")}
        there = {
            film.stem: film.stat()
            for film in self.folder.glob(f"*{_SUFFIX}")
            if _ID.fullmatch(film.stem)
        }
        for key in known.keys() - there.keys():
            self.drop(key)
        for key, status in there.items():
            if known.get(key) != status.st_size or key in pinned:
                self._account(key, status.st_size, status.st_mtime, pinned=key in pinned)

    def _account(self, key: str, size: int, created: float, *, pinned: bool = False) -> None:
        with self._table.database.writing() as db:
            db.execute(
                "INSERT INTO films VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "bytes = excluded.bytes, created = excluded.created, "
                "pinned = max(pinned, excluded.pinned)",
                (key, size, created, int(pinned)),
            )
            while db.execute("SELECT bytes FROM film_total").fetchone()[0] > self._limit:
                oldest = db.execute(
                    "SELECT id FROM films WHERE pinned = 0 AND id <> ? ORDER BY created LIMIT 1",
                    (key,),
                ).fetchone()
                if oldest is None:
                    break  # what is left is pinned, or the newest
                self._remove(db, oldest["id"])

    def _remove(self, db: sqlite3.Connection, key: str) -> None:
        db.execute("DELETE FROM films WHERE id = ?", (key,))
        if film := self.path(key):
            film.unlink(missing_ok=True)

    def _path(self, key: str, folder: Path | None = None) -> Path:
        # The pattern keeps ids from naming anything outside the folder.
        if not _ID.fullmatch(key):
            raise UserError("There is no such stored episode.", "Check the link.")
        return (folder or self.folder) / f"{key}{_SUFFIX}"
