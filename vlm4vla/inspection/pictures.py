"""The pictures of a stored episode, drawn again from its trace."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from PIL import Image as Pillow

from vlm4vla.ablation.given import GivenPainter
from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import Episode
from vlm4vla.core.observation import Image
from vlm4vla.data.pictures import decode_image, encode_png
from vlm4vla.inspection.shelf import Arrays, Shelf
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, VIEW_CAMERA

BLOCK: Final = 4
"""Steps whose pictures are kept in one file."""

LIGHT_SIDE: Final = 192
"""Side of the smaller picture for people: 101 moments in both sizes take about 270 KB."""


@dataclass(frozen=True)
class Picture:
    """The pictures of one moment, as files.

    Attributes:
        policy: PNG of the policy's camera, as the policy sees it: with whatever the episode's
            condition changes about it.
        view: JPEG of the camera for people.
        policy_light: WebP of the first, for a page that holds all of them.
        view_light: WebP of the second, made smaller, likewise.
    """

    policy: bytes
    view: bytes
    policy_light: bytes
    view_light: bytes

    @property
    def seen(self) -> Image:
        """(128, 128, 3) uint8 RGB, what the policy sees."""
        return decode_image(self.policy)


_FILES: Final = tuple(field.name for field in fields(Picture))


def kept_pictures(shelf: Shelf, episode: Episode) -> list[Picture]:
    """The pictures from the first on that are kept already."""
    found: list[Picture] = []
    for start in range(0, episode.steps + 1, BLOCK):
        arrays = shelf.read(f"pictures-{start:04d}")
        block = _from_arrays(arrays) if arrays is not None else []
        found += block
        if len(block) < min(BLOCK, episode.steps + 1 - start):
            break
    return found


def draw_pictures(
    shelf: Shelf, episode: Episode, environment: Environment
) -> Iterator[list[Picture]]:
    """Draws what is not kept yet, block by block; gives all pictures so far.

    Nothing is lost when the iterator is closed.

    Args:
        shelf: where they are kept.
        episode: with a pose for every step.
        environment: of its suite.

    Raises:
        UserError: the environment cannot draw, or the disk is full.
    """
    found = kept_pictures(shelf, episode)
    # A block of which the file is damaged is drawn as a whole.
    found = found if len(found) > episode.steps else found[: len(found) // BLOCK * BLOCK]
    trace = [Pose(*pose) for pose in zip(episode.trace.joints, episode.trace.poses, strict=True)]
    painter = GivenPainter.of(environment, episode.spec)
    for start in range(len(found), episode.steps + 1, BLOCK):
        block = []
        for step, pose in enumerate(trace[start : start + BLOCK], start):
            drawn = painter.at(step).draw(episode.spec, pose, (POLICY_CAMERA, VIEW_CAMERA)).images
            block.append(picture_of(drawn[POLICY_CAMERA], drawn[VIEW_CAMERA]))
        shelf.write(f"pictures-{start:04d}", _to_arrays(block))
        found += block
        yield list(found)


def picture_of(policy: Image, view: Image) -> Picture:
    """The files of a moment.

    Args:
        policy: (128, 128, 3) uint8 RGB.
        view: (H, W, 3) uint8 RGB.
    """
    smaller = np.asarray(
        Pillow.fromarray(view).resize((LIGHT_SIDE, LIGHT_SIDE), Pillow.Resampling.LANCZOS)
    )
    return Picture(
        encode_png(policy),
        _encode(view, "jpeg", 85),
        _encode(policy, "webp", 75),
        _encode(smaller, "webp", 60),
    )


def _encode(picture: Image, kind: str, quality: int) -> bytes:
    target = io.BytesIO()
    Pillow.fromarray(picture).save(target, kind, quality=quality)
    return target.getvalue()


def _to_arrays(block: Sequence[Picture]) -> Arrays:
    return {
        f"{name}_{index}": np.frombuffer(getattr(one, name), np.uint8)
        for index, one in enumerate(block)
        for name in _FILES
    }


def _from_arrays(arrays: Arrays) -> list[Picture]:
    return [
        Picture(*(arrays[f"{name}_{index}"].tobytes() for name in _FILES))
        for index in range(len(arrays) // len(_FILES))
    ]
