import os
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.system import debian

APT_GET = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *indextargets*) cat {sources} ;;
  *broken*) exit 100 ;;
esac
"""
APT_CACHE = """#!/bin/sh
printf 'mesa:\\n  Installed: (none)\\n  Candidate: %s\\n  Version table:\\n' "$CANDIDATE"
"""


class FakeApt:
    """Stands in for apt-get and apt-cache, and remembers what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.sources = folder / "sources"
        self.log.touch()
        scripts = {
            "apt-get": APT_GET.format(log=self.log, sources=self.sources),
            "apt-cache": APT_CACHE,
        }
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return FakeApt(folder)


def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> debian.Apt:
    monkeypatch.setattr(debian, "codename", lambda: release)
    monkeypatch.setattr(debian, "SOURCES", tmp_path / "sources.list.d")
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "release.sources").write_text("of this machine")
    return debian.Apt(tmp_path / "private")


def backports(tmp_path: Path) -> Path:
    return tmp_path / "private" / "sources.list.d" / "vlm4vla-backports.sources"


def test_backports_come_from_the_mirror_that_the_release_comes_from(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.sources.write_text(
        "http://mirror.test/debian-security/ bookworm-security\nhttp://mirror.test/deb/ bookworm\n"
    )
    private(tmp_path, monkeypatch, "bookworm").use_backports()
    lines = backports(tmp_path).read_text().splitlines()
    assert "URIs: http://mirror.test/deb/" in lines
    assert "Suites: bookworm-backports" in lines
    assert fake.asked()[-1].endswith(" update")


def test_backports_that_are_there_are_not_added_again(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.sources.write_text("http://a.test/ bookworm\nhttp://a.test/ bookworm-backports\n")
    private(tmp_path, monkeypatch, "bookworm").use_backports()
    assert not backports(tmp_path).exists()


@pytest.mark.parametrize("release", ["trixie", "noble"])
def test_newer_releases_use_no_backports(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    fake.sources.write_text("")
    apt = private(tmp_path, monkeypatch, release)
    apt.use_backports()
    apt.install("mesa-vulkan-drivers")
    assert not backports(tmp_path).exists()
    assert " -t " not in "\n".join(fake.asked())


def test_debian_12_takes_from_backports_only_what_asks_for_them(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.sources.write_text("http://a.test/ bookworm\nhttp://a.test/ bookworm-backports\n")
    apt = private(tmp_path, monkeypatch, "bookworm")
    apt.install("chromium")
    assert fake.asked()[-1].endswith("--no-install-recommends chromium")
    apt.use_backports()
    apt.install("mesa-vulkan-drivers")
    assert fake.asked()[-1].endswith("-t bookworm-backports mesa-vulkan-drivers")


@pytest.mark.parametrize(("printed", "version"), [("25.0.7-2", "25.0.7-2"), ("(none)", "")])
def test_the_candidate_is_what_apt_would_install(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, version: str
) -> None:
    monkeypatch.setenv("CANDIDATE", printed)
    assert private(tmp_path, monkeypatch, "trixie").candidate("mesa") == version


def test_without_root_apt_writes_only_to_the_private_folder(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private(tmp_path, monkeypatch, "trixie").unpack(["mesa"], tmp_path / "root")
    (asked,) = fake.asked()
    copied = tmp_path / "private" / "sources.list.d" / "release.sources"
    assert copied.read_text() == "of this machine"
    for setting in ("Dir::State::lists", "Dir::Cache", "Dir::Cache::archives"):
        assert f"{setting}={tmp_path / 'private'}" in asked
    assert "--download-only" in asked


def test_a_failure_of_apt_is_one_message_with_the_command(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="broken") as caught:
        private(tmp_path, monkeypatch, "trixie").install("broken")
    assert "run the same command again" in caught.value.fix


def test_unpacking_into_the_system_is_refused(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="private"):
        debian.Apt().unpack(["mesa"], tmp_path)
