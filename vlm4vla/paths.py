"""Where VLM4VLA keeps what it writes: one setting for everything, `VLM4VLA_HOME`."""

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


def cache() -> Path:
    """Files that can be made again from the installed packages (decimated meshes and the like)."""
    return home() / "cache"
