from pathlib import Path

import numpy as np
import pytest

from vlm4vla.data.pictures import encode_preview
from vlm4vla.errors import UserError
from vlm4vla.live.film import last_picture


def test_the_last_picture_is_the_last_frame(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    frames[-1] = 200
    (tmp_path / "film.mp4").write_bytes(encode_preview(frames, 20))
    found = last_picture(tmp_path / "film.mp4")
    assert found.shape == (64, 64, 3)
    assert abs(found.astype(int) - 200).max() < 8


@pytest.mark.parametrize("length", [0, 30, 900])
def test_a_film_that_is_damaged_or_gone_is_a_sentence(tmp_path: Path, length: int) -> None:
    film = tmp_path / "film.mp4"
    with pytest.raises(UserError, match=r"film\.mp4 cannot be read"):
        last_picture(film)
    whole = encode_preview(np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8), 20)
    film.write_bytes(whole[:length])
    with pytest.raises(UserError, match=r"film\.mp4 cannot be read"):
        last_picture(film)
