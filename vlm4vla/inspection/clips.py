"""Clips: the moment of an episode that its label is about, drawn again from its trace and kept."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image as Pillow

from vlm4vla import paths
from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import Episode
from vlm4vla.data.pictures import encode_preview
from vlm4vla.files import replacing
from vlm4vla.inspection.sheets import part_shown
from vlm4vla.inspection.shelf import mark_of, versions
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.tabletop.suite import VIEW_CAMERA

BEFORE_SECONDS: Final = 1.0
AFTER_SECONDS: Final = 0.5
"""What of an episode is shown, at the robot's own pace: what led to a label, and its outcome."""

EVERY: Final = 2
"""Steps from one picture to the next."""

SIDE: Final = 256
"""Of a clip, in pixels."""

LIMIT_BYTES: Final = 64 * 2**20
"""Most that all clips together may take: about 3,000 of them."""

REST: Final = 4
"""How often the last picture stands there, so that it can be seen before the clip begins anew."""

FORMAT: Final = 1
"""Counts up when the same moment would give another clip."""


def moments_of(episode_steps: int, step: int, hz: float) -> range:
    """The steps that a clip shows.

    Args:
        episode_steps: of the episode.
        step: which its label is about.
        hz: control steps a second.
    """
    before, after = round(BEFORE_SECONDS * hz), round(AFTER_SECONDS * hz)
    end = min(episode_steps, step + after)
    return range(max(0, end - before - after), end + 1, EVERY)


def draw_clip(episode: Episode, step: int, environment: Environment) -> bytes:
    """MP4 of what happens around a step, cut to the part of the picture where anything happens.

    Args:
        episode: of the tabletop suite, with a pose for every step.
        step: which.
        environment: of its suite.

    Raises:
        UserError: the episode has no pose for every step, or the environment cannot draw.
    """
    left, top, side = part_shown(episode)
    hz = SUITES.get(episode.spec.suite).control_hz
    frames = []
    for moment in moments_of(episode.steps, step, hz):
        pose = Pose(episode.trace.joints[moment], episode.trace.poses[moment])
        picture = environment.draw(episode.spec, pose, (VIEW_CAMERA,)).images[VIEW_CAMERA]
        box = [end * len(picture) for end in (left, top, left + side, top + side)]
        small = Pillow.fromarray(picture).resize(
            (SIDE, SIDE), Pillow.Resampling.LANCZOS, box=(box[0], box[1], box[2], box[3])
        )
        frames.append(np.asarray(small))
    return encode_preview(np.stack(frames + frames[-1:] * REST), round(hz / EVERY))


class Clips:
    """Clips that are kept; those that were looked at longest ago make room for new ones.

    Args:
        folder: where; None for the local folder's `clips`.
        limit_bytes: most that all of them may take.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder or paths.local() / "clips"
        self._limit = limit_bytes
        self._version = json.dumps([FORMAT, versions()], sort_keys=True)

    def path(self, episode: Episode, step: int) -> Path | None:
        """The clip of a step of an episode, or None if there is none."""
        clip = self._path(episode, step)
        if not clip.is_file():
            return None
        # A disk that is read only keeps them in the order that they were made in.
        with contextlib.suppress(OSError):
            os.utime(clip)
        return clip

    def put(self, episode: Episode, step: int, clip: bytes) -> Path:
        """Keeps a clip.

        Raises:
            UserError: the disk is full or not writable.
        """
        path = self._path(episode, step)
        with replacing(path) as temporary:
            temporary.write_bytes(clip)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        found = []
        for path in self.folder.glob("*.mp4"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # another process made room, too
            found.append((path == newest, status.st_mtime, status.st_size, path))
        total = sum(size for *_, size, _ in found)
        for last, _, size, path in sorted(found):
            if total <= self._limit or last:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, episode: Episode, step: int) -> Path:
        version = hashlib.sha256(f"{self._version} {mark_of(episode)}".encode()).hexdigest()[:8]
        return self.folder / f"{episode.id}-{step}-{version}.mp4"
