"""Batches on their way: drawn by workers as plain arrays, moved to the device as tensors.

Arrays travel between processes through pipes. Tensors would take shared memory, of which
containers have little.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")

_AHEAD = 4
"""Batches that each worker prepares before they are asked for."""


_LOOK_EVERY = 2.0
"""Seconds between a worker's looks whether the process that trains is still there."""


def _mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        values = {f.name: _mapped(getattr(tree, f.name), leaf) for f in dataclasses.fields(tree)}
        return type(tree)(**values)
    if isinstance(tree, dict):
        return {name: _mapped(value, leaf) for name, value in tree.items()}
    if type(tree) in (tuple, list):
        return type(tree)(_mapped(value, leaf) for value in tree)
    return leaf(tree)


def to_arrays(batch: T) -> T:
    """The batch with numpy arrays in the place of its tensors."""
    result: T = _mapped(batch, lambda x: x.numpy() if isinstance(x, Tensor) else x)
    return result


def to_tensors(batch: T, device: torch.device) -> T:
    """The batch with tensors on a device in the place of its arrays and tensors."""

    def leaf(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        return value.to(device) if isinstance(value, Tensor) else value

    result: T = _mapped(batch, leaf)
    return result


class _Batches(Dataset[T], Generic[T]):
    def __init__(self, draw: Callable[[int], T]) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> T:
        return self.draw(index)


def prefetched(draw: Callable[[int], T], indices: range, workers: int) -> Iterator[T]:
    """The batches of indices, in order.

    Args:
        draw: index -> batch of plain arrays; runs in forked processes, so it may hold anything but
            must not touch an accelerator.
        indices: which.
        workers: processes that draw ahead; 0 to draw each when it is asked for.
    """
    loader: DataLoader[T] = DataLoader(
        _Batches(draw),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        multiprocessing_context="fork" if workers else None,
        collate_fn=_as_it_is,
        worker_init_fn=partial(_listen_to_parent, os.getpid()),
        # The loader would else draw a seed from the generator that resuming restores.
        generator=torch.Generator(),
    )
    with _held_back():
        return iter(loader)


def _as_it_is(batch: T) -> T:
    return batch


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait; a process that is forked meanwhile never gets them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen_to_parent(parent: int, number: int) -> None:
    """Ends a worker when the process that trains ends it or is gone, and at no other signal.

    Ctrl-C and SIGTERM may be meant for a process group, or for all processes of a job; the process
    that trains still needs batches then, for the step that it saves.
    """
    if sys.platform == "darwin":
        # Nothing there tells who sent a signal; out of the group, a worker is not meant by it.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        return
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Takes every SIGTERM of this process, obeys its parent's, and ends when that one is gone.

    A worker whose pipe is full would else wait for ever for a parent that was killed to read it.
    """
    while os.getppid() == parent:
        found = signal.sigtimedwait({signal.SIGTERM}, _LOOK_EVERY)
        if found and found.si_pid == parent:
            break
    os._exit(0)
