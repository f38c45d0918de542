import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vlm4vla.train.batches.transfer import prefetched, to_arrays, to_tensors


@dataclass(frozen=True)
class Inner:
    values: object
    count: int


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    pair: tuple[object, str]


def test_arrays_become_tensors_and_back_and_all_else_stays():
    batch = Outer(Inner(torch.arange(3), 2), (torch.ones(1), "text"))
    arrays = to_arrays(batch)
    assert isinstance(arrays.inner.values, np.ndarray)
    back = to_tensors(arrays, torch.device("cpu"))
    assert torch.equal(back.inner.values, torch.arange(3))
    assert (back.inner.count, back.pair[1]) == (2, "text")
    assert to_arrays(Outer(None, (np.ones(1), ""))).inner is None


def squares(index):
    if index == 7:
        raise ValueError("seven")
    return np.array([index**2])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_from_any_number_of_workers(workers):
    before = torch.get_rng_state()
    found = [int(batch[0]) for batch in prefetched(squares, range(2, 7), workers)]
    assert found == [4, 9, 16, 25, 36]
    # What resuming restores must not be drawn from.
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="seven"):
        list(prefetched(squares, range(6, 9), workers))


def drawing(index):
    time.sleep(0.02)
    return np.full(1_000_000, index)


def drawn_ahead(count):
    """Batches of 8 MB, the first of them taken, and the workers that draw them."""
    others = set(multiprocessing.active_children())
    batches = prefetched(drawing, range(count), 2)
    assert next(batches)[0] == 0
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    return batches, workers


def test_a_sigterm_from_elsewhere_leaves_workers_drawing():
    batches, workers = drawn_ahead(40)
    subprocess.run(
        ["kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True, timeout=60
    )
    assert [int(batch[0]) for batch in batches] == list(range(1, 40))


def test_workers_end_when_the_process_that_trains_ends_them():
    _, workers = drawn_ahead(1_000)
    for worker in workers:
        worker.terminate()
        worker.join(30)
        # A worker that Python ends must not look like one that failed.
        assert worker.exitcode == 0


def test_workers_end_with_a_process_that_is_killed():
    """They hold its output open, so that it ends with the last of them."""
    script = (
        "import os, signal, time\n"
        "from test_transfer import drawn_ahead\n"
        "held = drawn_ahead(1_000)\n"
        "time.sleep(0.5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE
    )
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
