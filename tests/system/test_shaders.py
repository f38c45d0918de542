"""The shaders that are made from SAPIEN's own."""

import errno
import os
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from vlm4vla import files
from vlm4vla.errors import UserError
from vlm4vla.system import shaders

INSTALLED = Path(shaders.find_spec("sapien").submodule_search_locations[0]) / "vulkan_shader"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    return tmp_path


def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gbuffer: str) -> None:
    """Another SAPIEN, with one shader."""
    pack = tmp_path / "other" / "vulkan_shader" / "minimal"
    pack.mkdir(parents=True)
    (pack / "gbuffer.frag").write_text(gbuffer)
    spec = ModuleSpec("sapien", None)
    spec.submodule_search_locations = [str(tmp_path / "other")]
    monkeypatch.setattr(shaders, "find_spec", lambda name: spec)


def test_the_table_is_gone_and_all_else_stays(home: Path) -> None:
    folder = Path(shaders.without_reflection())
    assert folder.is_relative_to(home / "cache")
    for own in sorted(folder.parent.rglob("*.*")):
        stock = (INSTALLED / own.relative_to(folder.parent)).read_text().splitlines()
        changed = [line for line in own.read_text().splitlines() if line not in stock]
        lost = [line for line in stock if line not in own.read_text().splitlines()]
        assert all("samplerBRDFLUT" in line for line in lost)
        assert changed == ["  vec2 envBRDF = vec2(0);"] * (own.name == "gbuffer.frag")
    # Made once: what the folder holds is what its name says.
    before = folder.stat().st_ino
    assert shaders.without_reflection() == str(folder)
    assert folder.stat().st_ino == before


def test_shaders_that_it_does_not_know_are_left_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, "vec3 table = textureLod(samplerBRDFLUT, at, 0).rgb;")
    assert shaders.without_reflection() == "minimal"
    assert not (home / "cache").exists()
    monkeypatch.setattr(shaders, "find_spec", lambda name: None)
    assert shaders.without_reflection() == "minimal"


def test_another_text_has_another_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shaders.without_reflection()
    installed(tmp_path, monkeypatch, "void main() {}\n")
    assert shaders.without_reflection() != first


def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(UserError, match="shaders-"):
        shaders.without_reflection()
    assert list((home / "cache").iterdir()) == []
