from pathlib import Path

import pytest

from vlm4vla import paths


def test_the_setting_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert paths.home() == tmp_path / "data"
    assert paths.cache().parent == tmp_path / "data"


def test_then_the_desktop_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VLM4VLA_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert paths.home() == tmp_path / "xdg" / "vlm4vla"


def test_then_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VLM4VLA_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.home() == tmp_path / ".local" / "share" / "vlm4vla"


def test_a_tilde_means_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VLM4VLA_HOME", "~/data")
    assert paths.home() == tmp_path / "data"


def test_databases_lie_with_the_rest_unless_they_have_a_disk_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "bucket"))
    monkeypatch.delenv("VLM4VLA_LOCAL", raising=False)
    assert paths.local() == tmp_path / "bucket"
    monkeypatch.setenv("VLM4VLA_LOCAL", str(tmp_path / "disk"))
    assert paths.local() == tmp_path / "disk"
    assert paths.home() == tmp_path / "bucket"
