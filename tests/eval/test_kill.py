"""An evaluation that is killed for good, and goes on to the result of one that was not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from tests.waiting import until
from vlm4vla.cli import main
from vlm4vla.core.episode import Times
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.model.policy import Policy
from vlm4vla.train.objectives.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 40, "language_layers": 3, "language_width": 40}


def rows(folder):
    """The rows so far, in the order of their seeds."""
    return sorted(EpisodeTable(folder).query(), key=lambda row: row.spec.seed)


def outcome(folder):
    """The rows without what depends on the clock."""
    return [replace(row, times=Times(), created=0.0) for row in rows(folder)]


@pytest.mark.long
def test_kill_9_loses_no_row_leaves_no_process_and_changes_no_result(tmp_path, capsys):
    checkpoint = tmp_path / "untrained"
    vlm = make_backbone(**SIZES)
    Policy.from_vlm(vlm, query_init="embedding", device="cpu").save_pretrained(checkpoint)
    command = ["eval", "--checkpoint", str(checkpoint), "--tasks", "reach", "--episodes", "4"]
    command += ["--first-seed", "100000", "--json"]
    killed = tmp_path / "killed"
    two = [*command, "--workers", "2", "--out", str(killed)]
    running = subprocess.Popen([sys.executable, "-m", "vlm4vla.cli", *two])
    until(lambda: rows(killed) or running.poll() is not None, 180)
    assert running.poll() is None
    children = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(30)
    before = rows(killed)
    assert 1 <= len(before) < 4
    assert main(two) == 0
    resumed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row for row in rows(killed) if row.id in {one.id for one in before}] == before
    whole = tmp_path / "whole"
    assert main([*command, "--workers", "1", "--out", str(whole)]) == 0
    untouched = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome(killed) == outcome(whole)
    assert [row.spec.seed for row in outcome(killed)] == [100000, 100001, 100002, 100003]
    assert resumed["tasks"] == untouched["tasks"]
    assert children and not psutil.wait_procs(children, timeout=20)[1]
