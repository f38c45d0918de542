"""Replacing a folder so that a crash at any moment leaves a whole one under its name."""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
"""What kernels and file systems say that cannot exchange."""


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` when the block ends well.

    Nothing is left behind when the block raises; what a killed process left is removed the next
    time. One process at a time may do this for a folder.

    Args:
        folder: absolute; its parent is made if needed.

    Raises:
        OSError: the disk is full or not writable.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    for left in _left_behind(folder):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_prefix(folder)) as aside:
        new = Path(aside) / "new"
        new.mkdir(mode=0o755)
        yield new
        if not folder.exists():
            os.replace(new, folder)
        elif not exchange(new, folder):
            os.replace(folder, Path(aside) / "old")
            os.replace(new, folder)


def standing_folder(folder: Path) -> Path:
    """Where the content of `folder` is to be read; nothing is written.

    It is the folder itself, unless a replacement was killed between its two renames: then it is
    the old folder, where it was put aside.
    """
    if not folder.exists():
        for left in _left_behind(folder):
            if (left / "old").is_dir():
                return left / "old"
    return folder


def recover(folder: Path) -> None:
    """Puts the old folder back if a replacement was killed between its two renames.

    For writers only: another process may be at those renames just now.
    """
    if (standing := standing_folder(folder)) != folder:
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


def _prefix(folder: Path) -> str:
    return f".{folder.name}.saving-"


def _left_behind(folder: Path) -> list[Path]:
    if not folder.parent.is_dir():
        return []
    return sorted(p for p in folder.parent.iterdir() if p.name.startswith(_prefix(folder)))
