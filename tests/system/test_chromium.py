from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.system import chromium


def script(path: Path, text: str = "") -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_browser_in_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.executable() == ""
    chrome = script(tmp_path / "google-chrome")
    assert chromium.executable() == str(chrome)


def test_a_named_browser_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROMIUM", "/opt/browser")
    assert chromium.executable() == "/opt/browser"


@pytest.mark.parametrize(
    ("user", "release", "asked"),
    [
        (1000, "bookworm", "-m playwright install chromium"),
        (0, "noble", "-m playwright install --with-deps chromium"),
    ],
)
def test_without_debians_package_playwright_is_asked_and_its_failure_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, release: str, asked: str
) -> None:
    monkeypatch.setattr(chromium.os, "geteuid", lambda: user)
    monkeypatch.setattr(chromium, "codename", lambda: release)
    python = script(tmp_path / "python", f'echo "$@" > {tmp_path}/asked; exit 1')
    with pytest.raises(UserError, match="browser tests need Chromium") as caught:
        chromium.install(python)
    assert (tmp_path / "asked").read_text().strip() == asked
    assert "CHROMIUM=/path/to/chromium" in caught.value.fix


def test_debians_package_is_installed_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Apt:
        def update(self) -> None:
            done.append("update")

        def install(self, package: str) -> None:
            done.append(package)

    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    monkeypatch.setattr(chromium, "codename", lambda: "trixie")
    monkeypatch.setattr(chromium, "Apt", Apt)
    chromium.install(Path("/nonexistent/python"))
    assert done == ["update", "chromium"]
