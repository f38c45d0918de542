"""The files that say the same thing in several places still say the same thing."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from vlm4vla.system import vulkan

ROOT = Path(__file__).resolve().parents[2]
MESHES = {".glb", ".gltf", ".stl", ".dae", ".obj", ".ply", ".fbx"}


def constraints() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def test_every_requirement_has_a_tested_version() -> None:
    required = re.findall(r"^([\w-]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert {"torch", "mani-skill", "gradio"} <= set(required)
    assert set(required) <= set(constraints())


def test_the_simulator_is_an_extra_and_the_space_has_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    plain, simulator = project["dependencies"], project["optional-dependencies"]["sim"]
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    required = [line for line in lines if line and not line.startswith("#")]
    assert sorted([*plain, *simulator]) == sorted(required)
    names = [re.split("[<>=]", one)[0] for one in simulator]
    assert names == ["mani-skill", "sapien", "fast-simplification", "trimesh"]


def test_packages_that_do_not_fit_stay_out() -> None:
    assert not {"torchvision", "torchaudio", "timm"} & set(constraints())
    assert "+" not in constraints()["torch"]


def test_the_space_runs_the_gradio_that_was_tested() -> None:
    card = (ROOT / "README.md").read_text().split("---")[1]
    fields = dict(re.findall(r"^(\w+): (.+)$", card, re.MULTILINE))
    assert fields["sdk"] == "gradio"
    assert fields["sdk_version"] == constraints()["gradio"]
    assert fields["license"] == "apache-2.0"
    assert re.fullmatch(r"3\.1[12]\.\d+", fields["python_version"])
    assert (ROOT / fields["app_file"]).is_file()


def test_the_space_and_set_up_install_the_same_system_packages() -> None:
    listed = (ROOT / "packages.txt").read_text().split()
    assert set(listed) == {*vulkan._DRIVER_PACKAGES, *vulkan._LIBRARIES.values()}


def test_no_mesh_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    paths = listed.stdout.splitlines()
    assert "README.md" in paths
    assert [path for path in paths if Path(path).suffix.lower() in MESHES] == []
