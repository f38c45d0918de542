"""One file an episode while a dataset is being recorded.

Parquet files cannot be appended to, and one that is being written is unreadable until it is
closed. So each episode is a file of its own, moved into place when it is whole: a crash costs the
episode in progress, and any number of processes can write without knowing of each other.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlm4vla.data.lerobot.schema import FPS, EpisodeInfo, Recording, episode_info
from vlm4vla.data.lerobot.statistics import levels
from vlm4vla.data.lerobot.tables import (
    damaged,
    frames_table,
    open_parquet,
    read_groups,
    write_groups,
)
from vlm4vla.data.pictures import encode_preview
from vlm4vla.files import replacing

FOLDER = "parts"


@dataclass(frozen=True)
class Part:
    """An episode that has been recorded.

    Attributes:
        path: its file.
        info: what is true of all its frames.
        length: number of frames.
        levels: (3, 256) how often each level occurs in each channel of its pictures.
        fingerprint: of its content.
    """

    path: Path
    info: EpisodeInfo
    length: int
    levels: NDArray[np.int64]
    fingerprint: str

    def frames(self) -> pa.Table:
        """Its frames, without the columns that depend on the other episodes.

        Raises:
            UserError: the file is damaged.
        """
        return read_groups(self.path, [0])


def part_path(root: Path, index: int) -> Path:
    """The file of episode `index` while dataset `root` is being recorded."""
    return root / FOLDER / f"episode-{index:06d}.parquet"


def preview_path(root: Path, index: int) -> Path:
    """The film of episode `index`, for people.

    It lies beside the layout, not in its `videos/`: there it would be a second camera for every
    trainer, with the colours that language names smeared.
    """
    return root / "previews" / f"chunk-{index // 1000:03d}" / f"episode-{index:06d}.mp4"


def write_part(root: Path, index: int, recording: Recording) -> None:
    """Writes an episode and its preview; the episode counts once its Parquet file is there.

    Raises:
        UserError: the disk is full or not writable; earlier episodes are untouched.
    """
    with replacing(preview_path(root, index)) as temporary:
        temporary.write_bytes(encode_preview(recording.images, FPS))
    table = frames_table(recording)
    metadata = {
        "info": recording.info.to_json(),
        "levels": json.dumps(levels(recording.images).tolist()),
        "fingerprint": recording.fingerprint(),
    }
    write_groups(part_path(root, index), [table], table.schema.with_metadata(metadata))


def read_part(path: Path) -> Part:
    """Reads what a part says about itself, not its frames.

    Raises:
        UserError: the file is damaged.
    """
    with open_parquet(path) as file:
        metadata: dict[bytes, Any] = file.schema_arrow.metadata or {}
        try:
            return Part(
                path=path,
                info=episode_info(metadata[b"info"].decode()),
                length=file.metadata.num_rows,
                levels=np.array(json.loads(metadata[b"levels"]), np.int64),
                fingerprint=metadata[b"fingerprint"].decode(),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error) from error


def indices(root: Path) -> set[int]:
    """Which episodes have been recorded."""
    return {int(path.stem.split("-")[1]) for path in _files(root)}


def _files(root: Path) -> Iterator[Path]:
    return (root / FOLDER).glob("episode-*.parquet")
