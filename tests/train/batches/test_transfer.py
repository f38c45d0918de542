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
