"""The folder of a Space: what it holds, and that the app starts from it alone."""

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages.conftest import app_process
from vlm4vla.cli import main
from vlm4vla.errors import UserError
from vlm4vla.system import space

ROOT = Path(__file__).resolve().parents[2]
POLICIES = {"qwen3vl-broad-tiny", "qwen3vl-tiny", "internvl-tiny", "paligemma-tiny"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Space made of this checkout."""
    out = tmp_path_factory.mktemp("space") / "space"
    assert main(["export", "--space", str(out)]) == 0
    return out


def alone(folder: Path, home: Path) -> dict[str, str]:
    """Variables of a machine that has the Space and nothing of the checkout."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VLM4VLA_LOCAL")}
    return {**kept, "HOME": str(home), "VLM4VLA_HOME": str(home / "data"), "PWD": str(folder)}


def test_it_holds_app_policies_and_results_and_no_tests(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000_000
    assert {path.name for path in (folder / "checkpoints").iterdir()} >= POLICIES
    assert not (folder / "checkpoints" / "vlm-init").exists()
    assert not (folder / "tests").exists()
    assert not [path for path in files if path.suffix == ".pyc"]
    shipped = {path.name for path in (ROOT / "assets" / "results").iterdir()}
    assert {path.name for path in (folder / "assets" / "results").iterdir()} == shipped
    card = (folder / "README.md").read_text("utf-8").split("---")[1]
    assert (folder / str(re.findall(r"app_file: (.+)", card)[0])).is_file()


def test_git_routes_what_is_binary_to_lfs_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / ".gitattributes", tmp_path)
    binary = ("safetensors", "parquet", "mp4", "png")
    there = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert {f".{ending}" for ending in binary} <= there
    names = [f"below/it/x{ending}" for ending in sorted(there)]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)
    said = subprocess.run(
        ["git", "check-attr", "filter", "--", *names],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    routed = [line.split(":")[0] for line in said.stdout.splitlines() if line.endswith(": lfs")]
    assert sorted(routed) == sorted(f"below/it/x.{ending}" for ending in binary)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix.lstrip(".") not in binary:
            assert b"\0" not in path.read_bytes(), f"{path} is binary, and the Hub refuses it"


def test_it_installs_the_versions_that_were_tested(folder: Path) -> None:
    lines = (folder / "requirements.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert {"torch", "gradio", "mani-skill", "sapien"} <= names
    assert space.pinned("# why\nA-b>=1\nc>=2,<4\n", "a_b==1.5\nc==3.0\nd==9\n") == (
        "A-b==1.5\nc==3.0\n"
    )
    with pytest.raises(ValueError, match="pins no e"):
        space.pinned("e>=1\n", "a==1\n")


def test_every_file_compiles_on_the_python_of_the_space(folder: Path, tmp_path: Path) -> None:
    """With Python 3.12 where there is one, else with this one."""
    python = shutil.which("python3.12")
    known = python and subprocess.run([python, "-V"], capture_output=True, timeout=60)
    program = str(python) if known and known.returncode == 0 else sys.executable
    done = subprocess.run(
        [program, "-m", compileall.__name__, "-q", "vlm4vla", "pages", "app.py"],
        cwd=folder,
        env={**alone(folder, tmp_path), "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_overwritten_and_nothing_too_large_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "mine" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(UserError, match="is no Space"):
        space.write_space(precious.parent, [])
    # A clone of the Space that is there already, with its history and work of its own.
    for name in (".git/HEAD", ".gitattributes", "README.md"):
        (precious.parent / name).parent.mkdir(exist_ok=True)
        (precious.parent / name).write_text("mine")
    with pytest.raises(UserError, match=r"it holds \.git, thesis\.tex"):
        space.write_space(precious.parent, [])
    assert precious.read_text() == "years of work"
    with pytest.raises(UserError, match="is a file"):
        space.write_space(precious, [])
    with pytest.raises(UserError, match="lies in the checkout"):
        space.write_space(space.ROOT / "space", [])
    monkeypatch.setattr(space, "MOST_BYTES", 1_000_000)
    with pytest.raises(UserError, match="are the most"):
        space.write_space(tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"has no README\.md"):
        space.write_space(tmp_path / "out", [], root=tmp_path)
    assert main(["export", "some-folder", "--space", str(tmp_path / "out")]) == 2
    assert main(["export", "--out", str(tmp_path / "out")]) == 2


@pytest.fixture
def address(folder: Path, tmp_path: Path) -> Iterator[str]:
    """The app, started in the folder of the Space by its own file."""
    with app_process(folder, alone(folder, tmp_path)) as url:
        yield url


@pytest.mark.long
def test_the_app_starts_from_that_folder_alone(address: str, folder: Path, tmp_path: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import vlm4vla, pages; print(vlm4vla.__file__, *pages.__path__)"],
        cwd=folder,
        env=alone(folder, tmp_path),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert where.stdout.split() == [str(folder / "vlm4vla" / "__init__.py"), str(folder / "pages")]
    open_it = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    for path in ("", "inspect", "compare", "encoders", "failures", "ablations", "about"):
        with open_it(address + path, timeout=60) as answer:
            assert b"VLM4VLA" in answer.read()
    with open_it(address + "config", timeout=60) as answer:
        config = json.load(answer)
    assert {"Inspect", "Failures"} <= {name for _, name, *_ in config["pages"]}
    # What it learns of agents comes from its own checkpoints.
    offered = json.dumps(config["components"])
    assert all(name in offered for name in POLICIES)
