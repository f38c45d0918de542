"""Cells as processes of their own, killed for good, and gone on with to the same table."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from synthetic import make_cache

from tests.studies import miniature
from tests.waiting import until
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.studies.status import membership
from vlm4vla.studies.study import studies

LEVELS = ("VLM", "scratch")


def start(folder: Path, home: Path, *words: str, slow: float = 0.0) -> subprocess.Popen[bytes]:
    command = ["study", "run", "initialisation", "--cells", *LEVELS, "--cores", "0"]
    command += ["--data", str(folder / "data"), *words]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.studies.miniature", *command],
        env={
            **os.environ,
            "VLM4VLA_HOME": str(home),
            miniature.FOLDER: str(folder),
            "STUDY_MINIATURE_SLOW": str(slow),
        },
    )


def kill(running: subprocess.Popen[bytes]) -> None:
    """Kills a run for good; the command that it started ends with it."""
    children = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(30)
    assert not psutil.wait_procs(children, timeout=60)[1]


def rows(home: Path) -> list[tuple[str, str, int]]:
    """The study's rows without what depends on the clock."""
    table = EpisodeTable(home / "table")
    return sorted((r.id, r.outcome.kind, r.steps) for r in table.query(Filter(kind="study")))


def measures(home: Path, name: str) -> object:
    """What was measured of a cell, without what depends on the clock."""
    found = json.loads((home / "studies" / name / "measures.json").read_text())
    return found["agent"], found["pictures"], found["rows"]


@pytest.mark.long
def test_kill_9_anywhere_leads_to_the_same_table(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    miniature.make(folder, make_cache(episodes=12, frames=2))
    cells = {m.level: m.cell for m in studies(miniature.scale(folder))["initialisation"].members}
    first, second = (cells[level] for level in LEVELS)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(folder, whole).wait(300) == 0
    assert len(rows(whole)) == 8
    # In training: the run's folder is there, its policy is not.
    running = start(folder, broken)
    until(lambda: (broken / "studies" / first.name / "run").is_dir(), 120)
    kill(running)
    assert rows(broken) == []
    # In evaluation: some episodes are there.
    running = start(folder, broken, "--resume", slow=1.5)
    until(lambda: len(rows(broken)) >= 1, 120)
    kill(running)
    assert 1 <= len(rows(broken)) < 4
    # Between cells: the first is done, and the second is about to begin.
    running = start(folder, broken, "--resume")
    until(lambda: (broken / "studies" / second.name).is_dir(), 120)
    kill(running)
    table = EpisodeTable(broken / "table")
    kind, name = membership(first)
    assert table.count(Filter(kind=kind, name=name)) == 4
    assert start(folder, broken, "--resume").wait(300) == 0
    assert rows(broken) == rows(whole)
    for cell in (first, second):
        one, other = (measures(home, cell.name) for home in (whole, broken))
        assert one and one == other
