"""Set-up behind `make app` and `make test`: environment, packages, Vulkan driver, browser.

Run by the system's Python before anything is installed, so only the standard library is used.
Every step can be interrupted and run again: finished downloads stay in pip's cache, and a step
counts as done only when a stamp with the fingerprint of all its inputs says so.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from vlm4vla.errors import UserError
from vlm4vla.system import chromium, vulkan
from vlm4vla.system.debian import Apt, codename

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints.txt"

CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> int:
    """Sets up for the app or for the tests; a second run with nothing changed takes a moment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goal", choices=["app", "test"])
    goal = parser.parse_args().goal
    try:
        set_up(goal)
    except UserError as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def set_up(goal: str) -> None:
    """Brings everything that `goal` needs into place.

    Raises:
        UserError: a step failed; the message names the fix.
    """
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise UserError(
            f"VLM4VLA needs Python 3.11 or 3.12, and this is {sys.version.split()[0]}.",
            "Name another one: make app PYTHON=/path/to/python3.12",
        )
    stamp = VENV / f".set-up-{goal}"
    inputs = fingerprint()
    if stamp.is_file() and stamp.read_text() == inputs:
        return
    steps = 4 if goal == "test" else 3
    _say(f"[1/{steps}] Python environment in .venv")
    _make_environment()
    _say(f"[2/{steps}] Python packages (about 3 GB on disk; the first time takes minutes)")
    _install_packages(extras(goal, sys.platform))
    _say(f"[3/{steps}] Vulkan driver for the simulator's pictures")
    try:
        if not vulkan.has_driver():
            vulkan.install_driver()
    except UserError as error:
        # Recordings play without Vulkan, so the app is still worth starting; the tests are not.
        if goal == "test":
            raise
        _say(f"{error} Until then recordings play and Run is disabled.")
    if goal == "test":
        _say("[4/4] Browser for the tests")
        if not chromium.executable():
            chromium.install(PYTHON)
    stamp.write_text(inputs)


def extras(goal: str, platform: str) -> str:
    """The extras of pyproject.toml that a goal needs, as pip is told them.

    The simulator renders on Linux only; elsewhere the app shows every page but Run.

    Args:
        goal: "app" or "test".
        platform: as `sys.platform` names it.
    """
    wanted = ["sim"] * (platform == "linux") + ["test"] * (goal == "test")
    return ",".join(wanted)


def fingerprint() -> str:
    """A hash over everything that decides what set-up installs."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {VENV}".encode())
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _say(message: str) -> None:
    print(message, flush=True)


def _run(command: list[str | Path], problem: str, fix: str) -> None:
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise UserError(problem, fix)


def _make_environment() -> None:
    if PYTHON.exists() and _environment_version() != sys.version_info[:2]:
        _say("      .venv belongs to another Python version and is made anew")
        shutil.rmtree(VENV)
    command: list[str | Path] = [sys.executable, "-m", "venv", VENV]
    if importlib.util.find_spec("ensurepip") is None:
        # Debian keeps ensurepip in a package of its own.
        if os.geteuid() != 0 or not codename():
            _environment_without_ensurepip(command)
            return
        apt = Apt()
        apt.update()
        apt.install(f"python3.{sys.version_info.minor}-venv")
    _run(command, "Python could not make .venv.", "Remove .venv and run the same command again.")


def _environment_version() -> tuple[int, int]:
    settings = (VENV / "pyvenv.cfg").read_text()
    match = re.search(r"^version\s*=\s*(\d+)\.(\d+)", settings, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _environment_without_ensurepip(command: list[str | Path]) -> None:
    """Makes .venv with the pip of a Debian package that is unpacked, not installed."""
    _run([*command, "--without-pip"], "Python could not make .venv.", "Remove .venv and try again.")
    if not codename():
        raise UserError(
            f"{sys.executable} lacks ensurepip.", "Install the part of Python that has `venv`."
        )
    private = vulkan.private_folder() / "apt"
    apt = Apt(private)
    apt.update()
    apt.unpack(["python3-pip-whl"], private / "pip")
    wheel = next((private / "pip").rglob("pip-*.whl"))
    install: list[str | Path] = [PYTHON, wheel / "pip", "install", "--no-index", wheel]
    _run(install, "pip could not be installed into .venv.", "Install python3-venv.")
    shutil.rmtree(private)


def _install_packages(extra: str) -> None:
    pip: list[str | Path] = [PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    install: list[str | Path] = [*pip, "install", "--constraint", CONSTRAINTS]
    if not Path("/proc/driver/nvidia/version").exists():
        _prefer_cpu_torch(pip)
    _run(
        [*install, "--editable", f".[{extra}]" if extra else "."],
        "pip could not install the packages; its last lines above say why.",
        "Check the network and the free disk space, then run the same command again: finished "
        "downloads are kept.",
    )


def _prefer_cpu_torch(pip: list[str | Path]) -> None:
    """Installs a CPU build of torch if one can be had: it saves gigabytes of CUDA libraries.

    When none can, the installation that follows takes what the default index has.
    """
    pinned = re.search(r"^torch==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if pinned is None:
        raise ValueError("constraints.txt pins no torch")
    wanted = f"torch=={pinned[1]}+cpu"
    _say(f"      {wanted}, about 200 MB, if it can be had")
    for index in ([], ["--index-url", CPU_INDEX]):
        # Why a try failed says nothing to anybody while another way is left.
        command = [*pip, "--quiet", "install", "--retries", "1", "--no-deps", *index, wanted]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode == 0:
            return
    _say("      it cannot be had here: the usual build is taken")


if __name__ == "__main__":
    sys.exit(main())
