"""An evaluation that is killed for good, and goes on to the result of one that was not."""

import json
import os
import signal
import subprocess
import sys

import psutil

from tests.waiting import until
from vlm4vla.cli import main
from vlm4vla.model.policy import Policy
from vlm4vla.train.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 40, "language_layers": 3, "language_width": 40}


def rows(folder):
    file = folder / "episodes.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def outcome(folder):
    """The rows without what depends on the clock, in the order of their seeds."""
    found = [json.loads(row) for row in rows(folder)]
    timed = ("driver_ms", "physics_ms")
    return sorted(
        ({name: value for name, value in row.items() if name not in timed} for row in found),
        key=lambda row: row["seed"],
    )


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
    assert rows(killed)[: len(before)] == before
    whole = tmp_path / "whole"
    assert main([*command, "--workers", "1", "--out", str(whole)]) == 0
    untouched = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert outcome(killed) == outcome(whole)
    assert [row["seed"] for row in outcome(killed)] == [100000, 100001, 100002, 100003]
    assert resumed["tasks"] == untouched["tasks"]
    assert children and not psutil.wait_procs(children, timeout=20)[1]
