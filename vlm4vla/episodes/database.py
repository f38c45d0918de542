"""Connections to an episode database: threads, processes, and every fault as one sentence."""

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from vlm4vla.episodes.schema import APPLICATION_ID, MIGRATIONS, VERSION
from vlm4vla.errors import UserError

_PATIENCE_SECONDS: Final = 30.0
"""How long to wait for another process that writes."""

_TRIES: Final = 20
_PAUSE_SECONDS: Final = 0.05
"""How often, and with what pause, a reader tries to open a file that a writer is making."""

_CACHE_KIBIBYTES: Final = 256
"""Pages that a connection keeps. By default it is 2 MB, of each of a server's forty threads twice;
the operating system has them anyway."""

_STATEMENTS: Final = 16
"""Prepared statements that a connection keeps."""

_REBUILD: Final = "Run `vlm4vla episodes rebuild`, which keeps every row that can still be read."

_FULL: Final = {"SQLITE_FULL"}
_FORBIDDEN: Final = {"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"}
_BUSY: Final = {"SQLITE_BUSY", "SQLITE_LOCKED"}
_DAMAGED: Final = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}


class NewerVersionError(UserError):
    """The file was written by a newer version: nothing here may touch it."""


class _Open(NamedTuple):
    """A connection of one thread, and the process and file that it belongs to."""

    process: int
    file: tuple[int, int]
    connection: sqlite3.Connection


class _Connection(sqlite3.Connection):
    """A connection that weak references may point to; sqlite3's own may not.

    Attributes:
        writes: whether it was opened to write.
        fixed: whether it never sees what others write from now on.
    """

    writes: bool = False
    fixed: bool = False


class Database:
    """An SQLite file that holds episodes; nothing is opened before it is needed.

    Every thread has connections of its own, one to read and one to write. Readers never write: an
    absent file reads as an empty one. Rows are written in WAL mode with `synchronous = NORMAL`: a
    process that is killed loses nothing that was committed, since it lies with the operating
    system; a power cut may lose the transactions since the last checkpoint (of the last few
    megabytes), never half of one and nothing older. A sync at every commit would cost more than
    everything else that a put does.

    Args:
        path: where; None for one in memory, which ends with this object.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._own = threading.local()
        self._opened: weakref.WeakSet[_Connection] = weakref.WeakSet()
        # One writer at a time in this process: SQLite's own waiting is polling.
        self._lock = threading.RLock()
        self._memory = _in_memory() if path is None else None

    @property
    def exists(self) -> bool:
        """Whether something was written."""
        return self.path is None or (self.path.is_file() and self.path.stat().st_size > 0)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that cannot write, with what was committed when its query begins.

        Raises:
            UserError: the file is damaged, another program's, or of another version.
        """
        with self._told("read"):
            if self._memory is not None:
                with self._lock:
                    yield self._memory
            else:
                yield self._reader()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, committed when the block ends well; makes the file if there is none.

        Raises:
            UserError: the disk is full or not writable, or see `reading`. Nothing written before
                is lost, and nothing of this transaction is kept.
        """
        with self._told("write"), self._lock:
            connection = self._writer() if self._memory is None else self._memory
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def upgrade(self) -> None:
        """Brings the file of an older version up to date; any other stays as it is.

        Raises:
            UserError: see `writing`.
        """
        if self.path is None or not self.exists:
            return
        with self._told("read"):
            connection = _connect_to_read(self.path)
            older = 0 < _version(connection) < VERSION
            connection.close()
        if older:
            with self.writing():
                pass

    def gather(self) -> None:
        """Puts what lies beside the file into it, so that it can be moved alone.

        Raises:
            UserError: see `writing`.
        """
        with self._told("write"), self._lock:
            self._writer().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read_ahead(self) -> None:
        """Has the system read the file into its cache where it can, since first looks are slow.

        Nothing waits for it, and memory that something else needs is taken from it.
        """
        if self.path is not None and self.exists and hasattr(os, "posix_fadvise"):
            with open(self.path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Closes every connection; a later use opens new ones."""
        # Writers last: the last one to go puts what lies beside the file into it.
        for connection in sorted(self._opened, key=lambda one: one.writes):
            connection.close()
        self._own = threading.local()

    def _reader(self) -> sqlite3.Connection:
        assert self.path is not None
        if not self.exists:
            return _in_memory()
        known: _Open | None = getattr(self._own, "reader", None)
        if known is not None and known[:2] == self._identity():
            return known.connection
        connection = _connect_to_read(self.path)
        self._check(connection)
        if (found := _version(connection)) == 0:
            # Its first writer has made the file and not yet its tables.
            connection.close()
            return _in_memory()
        if found < VERSION:
            raise UserError(
                f"{self.path} is of an older version ({found}, here {VERSION}).",
                "Whatever writes into it brings it up to date: `vlm4vla episodes rebuild` does.",
            )
        # Where somebody can write, the next question may be answered by what was written.
        if not (connection.fixed and _writable(self.path)):
            self._own.reader = self._remember(connection)
        return connection

    def _writer(self) -> sqlite3.Connection:
        assert self.path is not None
        known: _Open | None = getattr(self._own, "writer", None)
        if known is not None and self.exists and known[:2] == self._identity():
            return known.connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(self.path, "mode=rwc")
        connection.writes = True
        self._check(connection)
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection)
        self._own.writer = self._remember(connection)
        return connection

    def _remember(self, connection: _Connection) -> _Open:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
        self._opened.add(connection)
        return _Open(*self._identity(), connection)

    def _identity(self) -> tuple[int, tuple[int, int]]:
        # A child must not use its parent's connection, nor anybody a file that was moved away.
        assert self.path is not None
        status = os.stat(self.path)
        return os.getpid(), (status.st_dev, status.st_ino)

    def _check(self, connection: sqlite3.Connection) -> None:
        # In this order: its first writer may give it both at once between the two questions.
        count = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if found != APPLICATION_ID and (found or count):
            raise UserError(
                f"{self.path} is a database of another program.", "Move it away and try again."
            )
        if (version := _version(connection)) > VERSION:
            raise NewerVersionError(
                f"{self.path} was written by a newer version of VLM4VLA ({version}, here "
                f"{VERSION}).",
                "Update VLM4VLA, or move the file away.",
            )

    @contextlib.contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise  # a mistake of ours
            raise _in_words(error, self.path, verb) from error


def _in_words(error: Exception, path: Path | None, verb: str) -> UserError:
    basic = _kind(error)
    kept = "what was written before is intact"
    if basic in _FULL:
        return UserError(
            f"The disk is full: {path} could not be written.", f"Free some disk space; {kept}."
        )
    if basic in _BUSY:
        return UserError(
            f"Another process has been writing into {path} for {_PATIENCE_SECONDS:.0f} seconds.",
            "Try again when it is done.",
        )
    if basic in _DAMAGED:
        return UserError(f"{path} is damaged, or no table of episodes: {error}.", _REBUILD)
    if basic in _FORBIDDEN or isinstance(error, OSError):
        return UserError(
            f"{path} cannot be {'read' if verb == 'read' else 'written'}: "
            f"{getattr(error, 'strerror', None) or error}.",
            f"Check the folder's permissions, or set VLM4VLA_LOCAL to another one; {kept}.",
        )
    return UserError(f"Could not {verb} {path}: {error}.", f"Check the disk; {kept}.")


def _kind(error: Exception) -> str:
    """SQLite's name of an error without its extension: SQLITE_IOERR for SQLITE_IOERR_WRITE."""
    return "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])


def _connect(path: Path, how: str) -> _Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=_PATIENCE_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
        cached_statements=_STATEMENTS,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _connect_to_read(path: Path) -> _Connection:
    for tries_left in reversed(range(_TRIES)):
        connection = _connect(path, "mode=ro")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            # A writer that comes or goes makes and removes files beside the database.
            if _kind(error) in _FORBIDDEN and tries_left and _writable(path):
                time.sleep(_PAUSE_SECONDS)
                continue
            beside = path.with_name(path.name + "-wal")
            unread = beside.exists() and beside.stat().st_size > 0
            if unread or _kind(error) not in _FORBIDDEN:
                raise
            break
    # WAL wants files beside the database. Where none can be made, nobody here writes either.
    connection = _connect(path, "immutable=1")
    connection.fixed = True
    return connection


def _writable(path: Path) -> bool:
    """Whether files can be made beside the database, as far as the system tells."""
    return os.access(path.parent, os.W_OK)


def _in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    _migrate(connection)
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _use_wal(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")


def _migrate(connection: sqlite3.Connection) -> None:
    if _version(connection) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again: another process may just have done it.
        for step in MIGRATIONS[_version(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
