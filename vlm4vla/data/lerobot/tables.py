"""Between recordings and Parquet: an episode's frames as a table, files that show their damage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vlm4vla.data.lerobot.schema import (
    ACTION,
    CHUNKS,
    FEATURES,
    FPS,
    IMAGE,
    MAX_GOALS,
    MAX_THINGS,
    NEXT_DONE,
    NEXT_EVENTS,
    NEXT_SUCCESS,
    NOISY,
    PIXELS,
    PLACED,
    POSITIONS,
    STATE,
    VELOCITY,
    Recording,
    arrow_type,
)
from vlm4vla.data.pictures import encode_png
from vlm4vla.errors import UserError
from vlm4vla.files import replacing


def frames_table(recording: Recording) -> pa.Table:
    """The frames of an episode as columns, without those in `PLACED`."""
    frames = len(recording)
    pictures = [{"bytes": encode_png(image), "path": None} for image in recording.images]
    columns: dict[str, Any] = {
        STATE: recording.state,
        VELOCITY: recording.velocity,
        ACTION: recording.action,
        CHUNKS: _padded(recording.chunks, MAX_GOALS),
        NOISY: recording.noisy,
        POSITIONS: _padded(recording.positions, MAX_THINGS),
        PIXELS: _padded(recording.pixels, MAX_THINGS),
        NEXT_EVENTS: recording.events,
        NEXT_SUCCESS: recording.success,
        NEXT_DONE: recording.done,
        "timestamp": (np.arange(frames) / FPS).astype(np.float32),
        "frame_index": np.arange(frames),
    }
    types = {name: arrow_type(FEATURES[name]) for name in FEATURES if name not in PLACED}
    return pa.table(
        {IMAGE: pa.array(pictures, types[IMAGE])}
        | {name: _column(values, types[name]) for name, values in columns.items()}
    )


def _padded(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """(T, r, ...) with zeros up to `rows`, each frame flattened."""
    padded = np.zeros((len(values), rows, *values.shape[2:]), values.dtype)
    padded[:, : values.shape[1]] = values
    return padded.reshape(len(values), -1)


def _column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values, kind)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def values_of(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """A column as (T,) or, for lists of equal length, (T, d).

    Raises:
        ValueError: the lists differ in length, or a value is missing.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.null_count:
        raise ValueError("a value is missing")
    if not pa.types.is_nested(column.type):
        return column.to_numpy(zero_copy_only=False)
    flat = values_of(column.flatten())
    width = len(flat) // max(len(column), 1)
    if not pa.types.is_fixed_size_list(column.type) and len(column):
        lengths = np.diff(column.offsets.to_numpy())
        if (lengths != width).any():
            raise ValueError("its lists differ in length")
    return flat.reshape(len(column), width)


def write_groups(path: Path, groups: Sequence[pa.Table], schema: pa.Schema) -> None:
    """Writes tables as one Parquet file, atomically: snappy, a row group each, page checksums.

    Raises:
        UserError: the disk is full or not writable.
    """
    with (
        replacing(path) as temporary,
        # Through a Python file, because Arrow's own gives a full disk no error number.
        open(temporary, "wb") as target,
        pq.ParquetWriter(target, schema, compression="snappy", write_page_checksum=True) as writer,
    ):
        for group in groups:
            writer.write_table(group.cast(schema), row_group_size=max(len(group), 1))


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a Parquet file; what is read from it later is compared with its page checksums.

    Raises:
        UserError: the file is missing or its structure is damaged.
    """
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing.", "Copy the dataset again.") from error
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from error


def read_groups(path: Path, groups: Sequence[int], columns: list[str] | None = None) -> pa.Table:
    """Reads some row groups of a file.

    Raises:
        UserError: the file is damaged or a column is missing.
    """
    with open_parquet(path) as file:
        if missing := set(columns or []) - set(file.schema_arrow.names):
            raise UserError(f"{path} has no column {', '.join(sorted(missing))}.")
        try:
            return file.read_row_groups(list(groups), columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """What to say about a file that cannot be read."""
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UserError(f"{path} is damaged: {reason}.", "Delete it and make or copy it again.")
