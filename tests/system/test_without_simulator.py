"""Where the packages of the extra `sim` are not installed, everything but Run, eval and collect is
there."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.test_architecture import imports, sources

ROOT = Path(__file__).resolve().parents[2]
SIMULATOR = ("mani_skill", "sapien", "fast_simplification", "trimesh", "gymnasium", "cv2")
"""The packages of the extra, and those that come with them and are imported somewhere."""

SIMULATING = ("vlm4vla.suites.tabletop", "vlm4vla.suites.maniskill", "vlm4vla.system.probe")
"""Where the simulator may be imported; environments and rigs load them in processes."""

BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*SIMULATOR, "torch")}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""

EVERYTHING = """
import importlib, json
from pages import site
from vlm4vla import cli
import app

for name in set(cli.COMMANDS) - {"backbones", "probe", "train"}:
    importlib.import_module(f"vlm4vla.commands.{name}")
blocks = site.build(site.Simulators(places=1), site.AgentCatalogue())
print(json.dumps([page for _, page, *_ in blocks.get_config_file()["pages"]]))
"""


def run(program: str, home: Path) -> subprocess.CompletedProcess[str]:
    """A program in a process that has no simulator."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program],
        cwd=ROOT,
        env={**os.environ, "VLM4VLA_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_every_page_and_every_command_can_be_imported(tmp_path: Path) -> None:
    """Without torch as well, which takes seconds; three commands are about it and left out."""
    done = run(EVERYTHING, tmp_path)
    assert done.returncode == 0, done.stderr
    pages = json.loads(done.stdout.splitlines()[-1])
    assert {"Inspect", "Compare", "Encoders", "Failures", "Ablations", "About"} <= set(pages)


def test_what_is_blocked_is_what_simulates(tmp_path: Path) -> None:
    done = run("import vlm4vla.suites.tabletop.bodies", tmp_path)
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


def test_only_what_simulates_names_a_package_of_the_simulator() -> None:
    found = {
        name
        for path, name in sources(ROOT)
        for _, imported in imports(path, name)
        if imported.partition(".")[0] in SIMULATOR
    }
    assert "vlm4vla.suites.tabletop.env" in found
    assert [name for name in sorted(found) if not name.startswith(SIMULATING)] == []


def test_the_packages_that_are_blocked_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = "\n".join(project["optional-dependencies"]["sim"]).replace("-", "_")
    assert [package for package in SIMULATOR[:4] if package in named] == list(SIMULATOR[:4])
