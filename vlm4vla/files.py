"""Writing files and folders so that a reader never sees half of one."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.errors import UserError

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNABLE: Final = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
"""What kernels and file systems say that cannot exchange."""

_FULL: Final = {os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}

_holding = threading.local()
"""The folders that a thread holds, each by its real path."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and moves it there when the block ends well.

    Nothing is left behind when the block raises. The new content is on disk before the name
    changes, so a crash leaves either the old file or the new one. A link stays a link: what it
    points to is replaced.

    Raises:
        UserError: the disk is full or not writable.
    """
    with _telling(path):
        real = Path(os.path.realpath(path))
        if real.is_dir():
            # Said before the work of the block, not after it.
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        real.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=real.parent, prefix=f".{real.name}.", suffix=real.suffix
        )
        os.close(handle)
        temporary = Path(name)
    try:
        with _telling(path, temporary):
            yield temporary
        with _telling(path):
            _sync(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, real)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` that takes its place when the block ends well.

    Nothing is left behind when the block raises; what a killed process left is removed the next
    time. Everything in the new folder is on disk before the name changes, which is one step where
    the system can exchange two names, as Linux can. A link stays a link. When two processes do
    this for one path, both end well and the later one's folder stays.

    Args:
        path: of the folder; its parent is made if needed. What it may replace is the caller's to
            check; a Git repository is never replaced, since its history would be lost.

    Raises:
        UserError: the disk is full or not writable, or the folder is a Git repository.
    """
    if (path / ".git").exists():
        raise UserError(f"{path} is a Git repository.", "Choose another folder, and copy from it.")
    with contextlib.ExitStack() as stack:
        with _telling(path):
            folder = _ready(path)
            new = stack.enter_context(_beside(folder)) / "new"
            new.mkdir(mode=0o755)
        with _telling(path, new):
            yield new
        with _telling(path):
            for parent, _, names in os.walk(new):
                for name in names:
                    _sync(Path(parent, name))
                _sync(Path(parent))
            _take_place(new, folder)


def refuse_others(folder: Path, names: Collection[str], what: str) -> None:
    """Raises where a folder holds what a replacement would not hold: it is somebody's.

    Args:
        folder: that is to be replaced; it need not be there.
        names: of all that may be directly in it.
        what: it would be, such as "Space".

    Raises:
        UserError: it is a file, or holds something else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file and no {what}.", "Choose another folder.")
    others = sorted(one.name for one in folder.iterdir() if one.name not in names)
    if others:
        named = ", ".join(others[:3]) + (" and more" if len(others) > 3 else "")
        raise UserError(
            f"{folder} is no {what}, or not only that: it holds {named}.", "Choose another folder."
        )


def standing_folder(path: Path) -> Path:
    """Where the content of a folder is to be read; nothing is written.

    It is the folder itself, unless a replacement was killed between two renames: then it is the
    old folder, where it was put aside.
    """
    folder = Path(os.path.realpath(path))
    if not folder.exists():
        for left in _left_behind(folder):
            if (left / "old").is_dir():
                return left / "old"
    return folder


def recover(path: Path) -> None:
    """Puts the old folder back if a replacement was killed between its two renames."""
    folder = Path(os.path.realpath(path))
    if (standing := standing_folder(folder)) != folder:
        # One that is held belongs to a process which is between its renames just now.
        with _alone(standing.parent) as alone:
            if alone:
                os.replace(standing, folder)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two names in one step; False where the system cannot (only Linux can).

    Raises:
        OSError: it can, but not these two.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    if rename(*names, ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(value), "utf-8")


def read_matching(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object in a JSON file that an earlier run wrote, if it was made with these settings.

    Args:
        path: the file; absent, damaged or of another run gives None, and it is made again.
        wanted: values that the object must hold.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and wanted.items() <= found.items() else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def json_text(value: Any) -> str:
    """`value` as the lines of JSON that `write_json` writes."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps everybody else out of a folder, made if needed, until the block ends.

    Whoever holds it may hold it again further in. The system lets go of what a killed process
    held. A folder that is empty at the end is removed.

    Raises:
        UserError: another process or thread holds it, or it is not writable.
    """
    mine: set[str] = _holding.__dict__.setdefault("folders", set())
    real = os.path.realpath(folder)
    if real in mine:
        yield
        return
    note = folder / ".process"
    with _telling(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = ""
            with contextlib.suppress(OSError):
                who = note.read_text("utf-8").strip()
            raise UserError(
                f"{folder} is in use by {who or 'another process'}.",
                "Wait until it has ended, or choose another folder.",
            ) from error
        with _telling(note):
            note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", "utf-8")
        mine.add(real)
        try:
            yield
        finally:
            mine.discard(real)
            note.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()
    finally:
        os.close(descriptor)


def _ready(path: Path) -> Path:
    """The real path of a folder that is to be replaced, with nothing left of earlier tries."""
    folder = Path(os.path.realpath(path))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    for left in _left_behind(folder):
        with _alone(left) as alone:
            # One that another process has only just made is empty, and not held yet.
            if alone and any(left.iterdir()):
                shutil.rmtree(left)
    return folder


def _take_place(new: Path, folder: Path) -> None:
    """Moves a folder to where another may be, which is then beside where the new one was."""
    try:
        os.replace(new, folder)
    except OSError:
        if not folder.is_dir():
            raise
        if not exchange(new, folder):
            os.replace(folder, new.with_name("old"))
            os.replace(new, folder)


@contextlib.contextmanager
def _telling(path: Path, within: Path | None = None) -> Iterator[None]:
    """Turns what a system says of a disk that cannot be written into a sentence.

    Args:
        path: what the user knows it by.
        within: what a block writes that does other things, too; None where everything in the block
            is a part of writing.
    """
    try:
        yield
    except UserError:
        raise
    # Libraries in Rust tell of a full disk in types of their own; the rest is raised again.
    except Exception as error:
        reason = _reason(error)
        # A file that a block could not read is not the one that it writes.
        ours = within is None or reason in _FULL or str(within) in str(error)
        if not (reason and ours):
            raise
        way = "Free some disk space or choose" if reason in _FULL else "Choose"
        raise UserError(
            f"Could not write {path}: {reason}.",
            f"{way} another folder; files written before are intact.",
        ) from error


def _reason(error: Exception) -> str:
    """What an error says of the disk, empty if it is about something else."""
    # Libraries in other languages, as safetensors and Arrow are, have only texts of their own.
    if number := re.search(r"\(os error (\d+)\)|\[errno (\d+)\]", str(error)):
        return os.strerror(int(number[1] or number[2]))
    return (error.strerror or str(error)) if isinstance(error, OSError) else ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(folder: Path) -> str:
    return f".{folder.name}.saving-"


def _left_behind(folder: Path) -> list[Path]:
    if not folder.parent.is_dir():
        return []
    return sorted(p for p in folder.parent.iterdir() if p.name.startswith(_prefix(folder)))


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside another one, held until it is removed at the end."""
    while True:
        beside = tempfile.TemporaryDirectory(dir=folder.parent, prefix=_prefix(folder))
        aside = Path(beside.name)
        # Who looks over what was left behind may hold it for a moment: it was held by nobody.
        with _alone(aside, wait=True), beside:
            # Not whether it is held: where folders cannot be, nobody removes another's either.
            if aside.is_dir():
                yield aside
                return


@contextlib.contextmanager
def _alone(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds a folder until the block ends; False if another process holds it or it is gone.

    The system lets go of what a killed process held.

    Args:
        folder: to hold.
        wait: until the other process lets go.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        # Whoever held it before may have removed it.
        yield folder.is_dir()
    finally:
        os.close(descriptor)
