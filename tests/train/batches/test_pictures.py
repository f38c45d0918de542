import numpy as np
import pytest
import torch

from vlm4vla.errors import UserError
from vlm4vla.train.batches.pictures import ImageStore, draw_pool, kept_pool, mirrored
from vlm4vla.train.synthetic.drawings import draw_picture


def test_a_kept_pool_is_the_one_that_was_drawn(tmp_path, monkeypatch):
    drawn = draw_pool(5)
    kept = kept_pool(tmp_path, 5)
    monkeypatch.setattr("vlm4vla.train.batches.pictures.draw_pool", lambda *a, **k: 1 / 0)
    again = kept_pool(tmp_path, 5)
    for pool in (kept, again):
        assert (pool.images == drawn.images).all()
        assert (pool.segmentations == drawn.segmentations).all()
        assert pool.items == drawn.items


def test_other_drawings_of_the_same_number_are_not_taken_for_them(tmp_path, monkeypatch):
    kept_pool(tmp_path, 5)
    other = "vlm4vla.train.batches.pictures.draw_picture"
    monkeypatch.setattr(other, lambda seed: mirrored(draw_picture(seed)))
    drawn, kept = draw_pool(5), kept_pool(tmp_path, 5)
    assert (kept.images == drawn.images).all()
    assert kept.items == drawn.items


@pytest.mark.parametrize("file", ["items.json", "images.npy", "segmentations.npy"])
@pytest.mark.parametrize("length", [0, 150, None])
def test_damaged_drawings_are_named_with_what_to_do(tmp_path, file, length):
    kept_pool(tmp_path, 5)
    path = next(tmp_path.iterdir()) / file
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
