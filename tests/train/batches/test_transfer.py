from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vlm4vla.errors import UserError
from vlm4vla.train.batches.pictures import ImageStore, draw_pool, kept_pool
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


def test_a_kept_pool_is_the_one_that_was_drawn(tmp_path, monkeypatch):
    drawn = draw_pool(5)
    kept = kept_pool(tmp_path, 5)
    monkeypatch.setattr("vlm4vla.train.batches.pictures.draw_pool", lambda *a, **k: 1 / 0)
    again = kept_pool(tmp_path, 5)
    for pool in (kept, again):
        assert (pool.images == drawn.images).all()
        assert (pool.segmentations == drawn.segmentations).all()
        assert pool.items == drawn.items


@pytest.mark.parametrize("file", ["items.json", "images.npy", "segmentations.npy"])
@pytest.mark.parametrize("length", [0, 150, None])
def test_damaged_drawings_are_named_with_what_to_do(tmp_path, file, length):
    kept_pool(tmp_path, 5)
    path = tmp_path / "drawings-5" / file
    content = path.read_bytes()
    path.unlink()
    if length is not None:
        path.write_bytes(content[:length])
    with pytest.raises(UserError, match=f"{path.parent} cannot be read: .* Delete that folder"):
        kept_pool(tmp_path, 5)


def test_pictures_are_taken_by_number():
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3), dtype=np.uint8)
    taken = ImageStore(images).take(torch.tensor([2, 0, 2]))
    assert (taken.numpy() == images[[2, 0, 2]]).all()
