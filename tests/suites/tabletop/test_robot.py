import errno
import os
import shutil
from pathlib import Path

import pytest
import trimesh
from mani_skill.agents.robots.panda.panda import Panda

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import robot


def triangles(folder, name):
    return sum(len(mesh.faces) for mesh in trimesh.load_scene(folder / name).geometry.values())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which nothing was made yet."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def urdf(home, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(home))
    return robot.light_urdf()


def test_meshes_are_lighter_and_as_large_as_before(urdf, home):
    assert urdf.is_relative_to(home)
    original = Path(Panda.urdf_path).parent / "franka_description" / "meshes" / "visual"
    whole = light = 0
    for mesh in sorted(original.glob("*.glb")):
        whole += triangles(original, mesh.name)
        light += triangles(urdf.parent, mesh.name)
        before = trimesh.load_scene(mesh).extents
        after = trimesh.load_scene(urdf.parent / mesh.name).extents
        assert abs(after - before).max() < 0.004
    assert whole > 130_000
    assert light < 0.15 * whole
    assert robot.light_urdf() == urdf
    assert [entry.name for entry in home.joinpath("cache").iterdir()] == [urdf.parent.name]


def test_collision_meshes_are_untouched(urdf):
    source = Path(Panda.urdf_path).parent / "franka_description" / "meshes" / "collision"
    for name in ("hand.stl", "link5.stl"):
        assert (urdf.parent / name).read_bytes() == (source / name).read_bytes()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(robot, "_decimate", lambda mesh: trimesh.creation.box())
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"Could not write .*panda.*: No space left on device"):
        robot.light_urdf()
    assert list((tmp_path / "cache").iterdir()) == []
