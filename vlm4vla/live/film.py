"""Single pictures out of stored videos."""

from pathlib import Path

import av
import numpy as np

from vlm4vla.core.observation import Image


def last_picture(video: Path) -> Image:
    """The last frame of a video: (height, width, 3) uint8 RGB."""
    with av.open(str(video)) as container:
        *_, frame = container.decode(video=0)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
