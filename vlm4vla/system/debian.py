"""Getting Debian and Ubuntu packages, as root with apt or without root into a private folder.

Only the standard library is used: set-up runs this before anything is installed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vlm4vla.errors import UserError

SUPPORTED = {"bookworm": "Debian 12", "trixie": "Debian 13", "noble": "Ubuntu 24.04"}

# Suites that are not enabled by default and hold a package newer than the release's own.
BACKPORTS = {"bookworm": "bookworm-backports"}

SOURCES = Path("/etc/apt/sources.list.d")
DEBIAN_ARCHIVE = "http://deb.debian.org/debian"
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def codename() -> str:
    """The release's code name ("bookworm", "noble"), empty where there is no apt."""
    release = Path("/etc/os-release")
    if shutil.which("apt-get") is None or not release.is_file():
        return ""
    match = re.search(r'^VERSION_CODENAME="?(\w+)"?$', release.read_text(), re.MULTILINE)
    return match[1] if match else ""


class Apt:
    """apt-get on the system's package sources.

    Args:
        private: None to install into the system, which needs root; else a folder for apt's lists
            and downloads, and nothing outside it is touched.
    """

    def __init__(self, private: Path | None = None) -> None:
        self.private = private
        self.release = codename()
        self._parts = SOURCES
        self._options: list[str] = []
        self._target: list[str] = []
        if private is not None:
            self._parts = private / "sources.list.d"
            shutil.copytree(SOURCES, self._parts, dirs_exist_ok=True)
            archives = private / "archives"
            (archives / "partial").mkdir(parents=True, exist_ok=True)
            (private / "lists" / "partial").mkdir(parents=True, exist_ok=True)
            settings = {
                "Dir::Etc::sourceparts": self._parts,
                "Dir::State::lists": private / "lists",
                "Dir::Cache": private,
                "Dir::Cache::archives": archives,
                # The lock of dpkg's database belongs to root, and only reading is meant here.
                "Debug::NoLocking": "true",
            }
            for key, value in settings.items():
                self._options += ["-o", f"{key}={value}"]

    def update(self) -> None:
        """Fetches the package lists."""
        self._get("update")

    def use_backports(self) -> None:
        """Prefers the release's backports from here on, where it needs them at all."""
        suite = BACKPORTS.get(self.release)
        if suite is None:
            return
        self._target = ["-t", suite]
        sources = self._sources()
        if all(name != suite for _, name in sources):
            archive = next((uri for uri, name in sources if name == self.release), DEBIAN_ARCHIVE)
            signed = f"Signed-By: {DEBIAN_KEYRING}\n" if DEBIAN_KEYRING.is_file() else ""
            (self._parts / "vlm4vla-backports.sources").write_text(
                f"Types: deb\nURIs: {archive}\nSuites: {suite}\nComponents: main\n{signed}"
            )
            self._get("update")

    def candidate(self, package: str) -> str:
        """The version of `package` that `install` would choose, empty when there is none."""
        output = self._run("apt-cache", *self._target, "policy", package)
        match = re.search(r"^  Candidate: (\S+)$", output, re.MULTILINE)
        return match[1] if match and match[1] != "(none)" else ""

    def install(self, *packages: str) -> None:
        """Installs packages into the system."""
        self._get("install", "--yes", "--no-install-recommends", *self._target, *packages)

    def unpack(self, packages: Sequence[str], folder: Path) -> None:
        """Unpacks packages, with whatever they need that the system lacks, below `folder`."""
        if self.private is None:
            raise ValueError("unpacking needs a private folder")
        self._get(
            "install",
            "--yes",
            "--no-install-recommends",
            "--download-only",
            *self._target,
            *packages,
        )
        for archive in sorted((self.private / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", archive, folder], check=True)

    def _sources(self) -> list[tuple[str, str]]:
        """The address and the suite of every package list, whatever format its source is in."""
        listed = self._run(
            "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"
        )
        return [(uri, suite) for uri, suite in (line.split() for line in listed.splitlines())]

    def _get(self, *arguments: str) -> None:
        """Runs apt-get with its output on standard error, where progress belongs."""
        command = ["apt-get", "--quiet", *self._options, *arguments]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(command, env=quiet, stdout=sys.stderr, check=False).returncode != 0:
            raise UserError(
                f"`{' '.join(command)}` failed; its last lines above say why.",
                "Check the network and the package sources, then run the same command again.",
            )

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *self._options, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout
