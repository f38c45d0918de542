"""From one file an episode to the LeRobotDataset v3 layout.

Everything is a function of the parts and their numbers, so the dataset does not depend on how
many processes recorded it, or how often they were interrupted. `meta/info.json` is written last: a
folder that has it is a finished dataset, one that has not can be finished again from its parts.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from vlm4vla.data.lerobot import statistics
from vlm4vla.data.lerobot.integrity import FINGERPRINT, fingerprint_of
from vlm4vla.data.lerobot.layout import DATA_PATH, EPISODES_PATH, INFO, OURS, STATS, TASKS
from vlm4vla.data.lerobot.parts import FOLDER, Part, part_path, read_part
from vlm4vla.data.lerobot.schema import CHUNKS, FEATURES, FPS, IMAGE, PLACED, arrow_schema
from vlm4vla.data.lerobot.tables import values_of, write_groups
from vlm4vla.files import replacing, write_json

CHUNK_FILES: Final = 1000
FILE_MEGABYTES: Final = 100


def is_finished(root: Path) -> bool:
    """Whether `root` holds a complete dataset."""
    return (root / INFO).is_file()


def finish(root: Path, total: int, settings: dict[str, Any]) -> None:
    """Makes the dataset of episodes 0 to `total` - 1 from their parts, then removes the parts.

    Args:
        root: the folder that the parts were written to.
        total: how many episodes the dataset has.
        settings: how they were recorded; kept in `meta/vlm4vla.json`.

    Raises:
        UserError: a part is missing or damaged, or the disk is full; the parts are untouched.
    """
    parts = [read_part(part_path(root, index)) for index in range(total)]
    tasks = {sentence: i for i, sentence in enumerate(dict.fromkeys(_sentences(parts)))}
    for folder in (root / "data", root / "meta" / "episodes"):
        # What an interrupted finish left behind; it is made again.
        shutil.rmtree(folder, ignore_errors=True)
    rows: list[dict[str, Any]] = []
    values: dict[str, list[NDArray[Any]]] = {name: [] for name in _MEASURED}
    for number, group in enumerate(_files(parts)):
        tables = []
        for part in group:
            begin = rows[-1]["dataset_to_index"] if rows else 0
            table = _placed(part, len(rows), begin, tasks[part.info.instruction])
            rows.append(_episode_row(part, len(rows), begin, number, table))
            for name, found in values.items():
                found.append(values_of(table[name]))
            tables.append(table)
        write_groups(root / _numbered(DATA_PATH, number), tables, arrow_schema())
    _write_frame(root / _numbered(EPISODES_PATH, 0), pd.DataFrame(rows), index=False)
    index = pd.Index(list(tasks), name="task")
    _write_frame(root / TASKS, pd.DataFrame({"task_index": range(len(tasks))}, index), index=True)
    frames = sum(part.length for part in parts)
    pictures = np.sum([part.levels for part in parts], axis=0)
    whole = {IMAGE: statistics.of_levels(pictures, frames)}
    whole |= {name: statistics.of_values(np.concatenate(found)) for name, found in values.items()}
    write_json(root / STATS, whole)
    whole_fingerprint = fingerprint_of([part.fingerprint for part in parts])
    write_json(root / OURS, {"fingerprint": whole_fingerprint, "settings": settings})
    write_json(root / INFO, _info(total, frames, len(tasks)))
    discard_parts(root)


def discard_parts(root: Path) -> None:
    """Removes the parts of a finished dataset."""
    shutil.rmtree(root / FOLDER, ignore_errors=True)


_MEASURED: Final = tuple(name for name in FEATURES if name not in (IMAGE, CHUNKS))
"""Features with statistics from their columns. Labels have none: most components are padding in
most scenes, and statistics over padding would mislead."""


def _sentences(parts: Sequence[Part]) -> Iterator[str]:
    return (part.info.instruction for part in parts)


def _files(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Successive parts, together no larger than a data file should be."""
    group: list[Part] = []
    size = 0
    for part in parts:
        added = part.path.stat().st_size
        if group and size + added > FILE_MEGABYTES * 1_000_000:
            yield group
            group, size = [], 0
        group.append(part)
        size += added
    if group:
        yield group


def _numbered(template: str, number: int) -> str:
    return template.format(chunk_index=number // CHUNK_FILES, file_index=number % CHUNK_FILES)


def _placed(part: Part, episode: int, begin: int, task: int) -> pa.Table:
    """The frames of a part with the columns that say where in the dataset they are."""
    table = part.frames()
    where = {
        "episode_index": np.full(part.length, episode),
        "index": begin + np.arange(part.length),
        "task_index": np.full(part.length, task),
    }
    for name in PLACED:
        table = table.append_column(name, pa.array(where[name], pa.int64()))
    return table.select(list(FEATURES)).replace_schema_metadata(None)


def _episode_row(
    part: Part, episode: int, begin: int, file: int, table: pa.Table
) -> dict[str, Any]:
    info = part.info
    row: dict[str, Any] = {
        "episode_index": episode,
        "tasks": [info.instruction],
        "length": part.length,
        "data/chunk_index": file // CHUNK_FILES,
        "data/file_index": file % CHUNK_FILES,
        "dataset_from_index": begin,
        "dataset_to_index": begin + part.length,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        "vlm4vla/info": info.to_json(),
        FINGERPRINT: part.fingerprint,
    }
    measured = {IMAGE: statistics.of_levels(part.levels, part.length)}
    measured |= {name: statistics.of_values(values_of(table[name])) for name in _MEASURED}
    for feature, found in measured.items():
        row |= {f"stats/{feature}/{name}": value for name, value in found.items()}
    return row


def _write_frame(path: Path, frame: pd.DataFrame, *, index: bool) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as target:
        frame.to_parquet(target, engine="pyarrow", compression="snappy", index=index)


def _info(episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": "panda",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MEGABYTES,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": FEATURES,
    }
