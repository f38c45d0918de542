"""Batches on their way: drawn by workers as plain arrays, moved to the device as tensors.

Arrays travel between processes through pipes. Tensors would take shared memory, of which
containers have little.
"""

import dataclasses
import signal
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")

_AHEAD = 4
"""Batches that each worker prepares before they are asked for."""


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
        worker_init_fn=_quiet_worker,
        # The loader would else draw a seed from the generator that resuming restores.
        generator=torch.Generator(),
    )
    return iter(loader)


def _as_it_is(batch: T) -> T:
    return batch


def _quiet_worker(number: int) -> None:
    """Leaves Ctrl-C to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
