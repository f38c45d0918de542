"""Several processes learn from their parts of a batch what one learns from the whole."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from two_ranks import learn

from vlm4vla.errors import UserError
from vlm4vla.train.loop import train as loop
from vlm4vla.train.loop.ranks import mean_over_ranks
from vlm4vla.train.loop.state import load_state

HERE = Path(__file__).parent


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def launch(run, stop=-1, ranks=2, further=(), seconds=200):
    """Runs the ranks over gloo, as `accelerate launch` would."""
    run.mkdir(exist_ok=True)
    port = str(free_port())
    processes = []
    for rank in range(ranks):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "ACCELERATE_USE_CPU": "true",
            "ACCELERATE_MIXED_PRECISION": "no",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            sys.executable,
            str(HERE.parent / "two_ranks.py"),
            str(run),
            str(stop),
            str(rank),
            *further,
        ]
        processes.append(subprocess.Popen(command, env=environment))
    assert [process.wait(timeout=seconds) for process in processes] == [0] * ranks
    return load_file(run / "weights.safetensors")


@pytest.fixture
def exact(monkeypatch):
    """Keeps bf16 out of the process that is compared with."""
    monkeypatch.setattr(loop, "precision", lambda: "no")
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def assert_alike(one, other, start):
    """They end together, measured by the way that they went.

    Adam divides by the gradient's own size, so rounding decides where a gradient is almost zero.
    """
    assert one.keys() == other.keys() == start.keys()
    flat = [torch.cat([w[name].flatten() for name in start]) for w in (one, other, start)]
    assert (flat[0] - flat[1]).norm() < 3e-3 * (flat[0] - flat[2]).norm()


def test_two_processes_learn_what_one_does_and_one_goes_on_where_two_stopped(tmp_path, exact):
    start = learn(tmp_path / "start", stop=0)
    whole = learn(tmp_path / "one")
    assert_alike(launch(tmp_path / "two"), whole, start)
    assert len(list((tmp_path / "two").glob("state-*"))) == 1
    histories = [json.loads((tmp_path / f / "recipe.json").read_text()) for f in ("one", "two")]
    assert histories[0] == histories[1]
    launch(tmp_path / "changed", stop=4)
    assert load_state(tmp_path / "changed").step == 3
    assert_alike(learn(tmp_path / "changed"), whole, start)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_two_processes_with_compiled_layers_learn_what_one_does(tmp_path, exact):
    start = learn(tmp_path / "start", stop=0)
    whole = learn(tmp_path / "one")
    assert_alike(launch(tmp_path / "two", further=["compiled"], seconds=900), whole, start)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path, monkeypatch):
    class Three:
        process_index, num_processes = 0, 4

    monkeypatch.setattr(loop, "_accelerator", lambda track, device: Three())
    with pytest.raises(UserError, match="6 pictures cannot be divided among 4 processes"):
        learn(tmp_path)


def test_a_mean_of_nothing_is_nothing():
    assert mean_over_ranks(torch.tensor(0.0), torch.tensor(0)) == 0
    assert mean_over_ranks(torch.tensor(6.0), torch.tensor(4)) == 1.5
