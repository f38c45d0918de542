"""Single pictures out of stored videos."""

from pathlib import Path

import av
import numpy as np

from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError


def last_picture(video: Path) -> Image:
    """The last frame of a video: (height, width, 3) uint8 RGB.

    Raises:
        UserError: it is gone or damaged, or has no frame.
    """
    try:
        with av.open(str(video)) as container:
            *_, frame = container.decode(video=0)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise UserError(f"The film {video} cannot be read: {error}.") from error
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
