from pathlib import Path

import numpy as np

from vlm4vla.data.pictures import encode_preview
from vlm4vla.live.film import last_picture


def test_the_last_picture_is_the_last_frame(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    frames[-1] = 200
    (tmp_path / "film.mp4").write_bytes(encode_preview(frames, 20))
    found = last_picture(tmp_path / "film.mp4")
    assert found.shape == (64, 64, 3)
    assert abs(found.astype(int) - 200).max() < 8
