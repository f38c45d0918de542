"""Films of episodes for people: made of pictures, and a picture taken out of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import av
import numpy as np

from vlm4vla.core.observation import Image
from vlm4vla.data.pictures import encode_preview
from vlm4vla.errors import UserError

_HOLD_SECONDS: Final = 1
"""How long a film stays on its last picture, so that it can be seen when the film loops."""


def film_of(pictures: Sequence[Image], control_hz: float) -> bytes:
    """A film of an episode at the robot's own pace: an MP4 that stays on its last picture.

    Args:
        pictures: (height, width, 3) uint8 RGB, one of the start and one of every control step.
        control_hz: control steps a second.
    """
    held = [pictures[-1]] * round(_HOLD_SECONDS * control_hz)
    return encode_preview(np.stack([*pictures, *held]), round(control_hz))


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
