"""Where VLM4VLA keeps what it writes: below `VLM4VLA_HOME`, databases below `VLM4VLA_LOCAL`."""

import os
from pathlib import Path


def home() -> Path:
    """The folder for everything written at run time.

    `VLM4VLA_HOME` if set, else `$XDG_DATA_HOME/vlm4vla`, else `~/.local/share/vlm4vla`.
    """
    if setting := os.environ.get("VLM4VLA_HOME"):
        return Path(setting).expanduser().resolve()
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "vlm4vla"


def local() -> Path:
    """The folder for what needs a disk of this machine's own, such as a database.

    `VLM4VLA_LOCAL` if set, else `home()`. Set it where the data folder is a mounted bucket or a
    network share, on which SQLite cannot lock its files.
    """
    if setting := os.environ.get("VLM4VLA_LOCAL"):
        return Path(setting).expanduser().resolve()
    return home()


def cache() -> Path:
    """Files that can be made again from the installed packages (decimated meshes and the like)."""
    return home() / "cache"
