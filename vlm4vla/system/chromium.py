"""The browser that the tests drive."""

import os
import shutil
import subprocess
from pathlib import Path

from vlm4vla.errors import UserError
from vlm4vla.system.debian import Apt, codename

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    """The path of an installed Chromium (`CHROMIUM` overrides), empty if there is none."""
    if setting := os.environ.get("CHROMIUM"):
        return setting
    return next((path for name in _NAMES if (path := shutil.which(name))), "")


def install(python: Path) -> None:
    """Installs Debian's Chromium as root; elsewhere the one that Playwright brings.

    Ubuntu's package is a stub that asks for snap, which containers do not have.

    Raises:
        UserError: neither could be had.
    """
    if os.geteuid() == 0 and codename() in ("bookworm", "trixie"):
        apt = Apt()
        apt.update()
        apt.install("chromium")
        return
    dependencies: list[str | Path] = ["--with-deps"] if os.geteuid() == 0 else []
    command: list[str | Path] = [python, "-m", "playwright", "install", *dependencies, "chromium"]
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(
            "The browser tests need Chromium, and Playwright could not download its own.",
            "Install Chromium or Google Chrome, or name one with CHROMIUM=/path/to/chromium.",
        )
