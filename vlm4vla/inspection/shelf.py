"""The shelf of bundles: pictures and maps of inspected episodes, kept until newer ones need room.

A bundle is a folder. Its files come one by one, each written at once, so that whatever was stopped
goes on where it stopped.
"""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from vlm4vla import __version__, paths
from vlm4vla.core.episode import Episode
from vlm4vla.files import replacing

MOST_BUNDLES: Final = 100
"""A bundle of 100 steps takes about 4 MB."""

FORMAT: Final = 2
"""Counts up when the same episode would give other pictures or maps."""

_PACKAGES: Final = ("mani_skill", "sapien", "torch", "transformers")

Arrays = Mapping[str, np.ndarray[Any, Any]]


class Bundles:
    """The bundles of a folder.

    Args:
        folder: where; None for the data folder's `inspections`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.home() / "inspections"

    def of(self, episode: Episode, digest: str) -> "Shelf":
        """The place of an episode's bundle; making room for it is left to the first write.

        Args:
            episode: which.
            digest: of the checkpoint that is asked about its inferences; "" for none.
        """
        text = json.dumps([FORMAT, mark_of(episode), digest, versions()], sort_keys=True)
        name = f"{episode.id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        return Shelf(self.folder / name)


class Shelf:
    """One bundle's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str) -> Arrays | None:
        """Arrays that were kept under a name; None if they were not, or are damaged."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            return None

    def write(self, name: str, arrays: Arrays) -> None:
        """Keeps arrays under a name, at once.

        Raises:
            UserError: the disk is full or not writable.
        """
        if not self.folder.exists():
            _make_room(self.folder)
        with replacing(self.folder / f"{name}.npz") as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)


def mark_of(episode: Episode) -> str:
    """A hash of what pictures and maps of an episode come from.

    The id alone will not do: an episode that is put again keeps it, whatever it did this time.
    """
    trace, chunks = episode.trace, [one.chunk for one in episode.predictions]
    found = hashlib.sha256(f"{episode.id} {[one.step for one in episode.predictions]}".encode())
    for array in (trace.joints, trace.poses, *chunks):
        found.update(np.asarray(array, np.float32).tobytes())
    return found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of everything that changes pictures and maps; "" for what is not installed."""
    found = {"vlm4vla": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _make_room(folder: Path) -> None:
    """Drops the bundles that were written to longest ago."""
    if not folder.parent.exists():
        return
    others = sorted(folder.parent.iterdir(), key=_age)
    for old in others[: max(0, len(others) + 1 - MOST_BUNDLES)]:
        shutil.rmtree(old, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
