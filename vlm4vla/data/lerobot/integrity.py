"""Whether a dataset still holds what was recorded, and which column does not."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlm4vla.data.lerobot import statistics
from vlm4vla.data.lerobot.schema import ACTION, CHUNKS, FEATURES, IMAGE, arrow_type
from vlm4vla.data.lerobot.tables import damaged, open_parquet, read_groups, values_of
from vlm4vla.errors import UserError

FINGERPRINT = "vlm4vla/fingerprint"
"""The column of `meta/episodes` with the fingerprint of each episode's content."""


ORDERED = ("episode_index", "frame_index", "index")
"""Columns that number the frames of a dataset."""


def fingerprint_of(episodes: Sequence[str]) -> str:
    """SHA-256 over the fingerprints of the episodes, in order: the fingerprint of a dataset."""
    return hashlib.sha256("".join(episodes).encode()).hexdigest()


def changed(file: Path, episode: int, what: str) -> UserError:
    """What to say about an episode that is not what was recorded; `what` names the column."""
    return damaged(file, ValueError(f"episode {episode}, {what}"))


def refuse_nonfinite(file: Path, episode: int, column: str, values: NDArray[Any]) -> None:
    """Raises `UserError` if a value of an episode, (T,) or (T, d), is NaN or infinite."""
    if not np.issubdtype(values.dtype, np.floating):
        return
    finite = np.isfinite(values).reshape(len(values), -1)
    if not finite.all():
        frame = int(np.flatnonzero(~finite.all(axis=1))[0])
        value = values.reshape(len(values), -1)[frame][~finite[frame]][0]
        raise changed(file, episode, f"column {column} is {value} in frame {frame}")


def refuse_other_types(file: Path, episode: int, table: pa.Table, columns: Sequence[str]) -> None:
    """Raises `UserError` if one of our columns is not of the type that `FEATURES` gives it."""
    for name in columns:
        found, wanted = table.schema.field(name).type, arrow_type(FEATURES[name])
        if found != wanted:
            raise changed(file, episode, f"column {name} holds {found} instead of {wanted}")


def refuse_other_sizes(file: Path, episode: int, images: NDArray[np.uint8]) -> None:
    """Raises `UserError` if pictures, (T, height, width, 3), are of another size than ours."""
    height, width = images.shape[1:3]
    wanted = FEATURES[IMAGE]["shape"][:2]
    if [height, width] != wanted:
        raise changed(
            file,
            episode,
            f"column {IMAGE} holds pictures of {width} x {height} instead of "
            f"{wanted[1]} x {wanted[0]} pixels",
        )


def refuse_changed(
    root: Path, file: Path, episode: int, table: pa.Table, recorded: str, found: str
) -> None:
    """Raises `UserError` if an episode's fingerprint is not the recorded one.

    Args:
        root: of the dataset.
        file: that holds the episode, absolute.
        episode: its number.
        table: its frames, all columns.
        recorded: the fingerprint in `meta/episodes`, empty if there is none.
        found: the fingerprint of the frames.
    """
    if recorded and recorded != found:
        what = ", ".join(_suspects(root, episode, table))
        raise changed(file, episode, f"column {what}: not what was recorded")


def refuse_other_times(
    file: Path, episode: int, times: NDArray[np.float32], every: float | None
) -> None:
    """Raises `UserError` if a frame was not recorded when it should have been.

    Args:
        file: the data file.
        episode: its number.
        times: (T,) seconds since the episode began.
        every: seconds from frame to frame; None where only a finite time is asked for.
    """
    refuse_nonfinite(file, episode, "timestamp", times)
    if every is None:
        return
    late = np.abs(times - every * np.arange(len(times))) > 1e-3
    if late.any():
        frame = int(np.flatnonzero(late)[0])
        what = f"column timestamp is {times[frame]:g} in frame {frame}, not {every * frame:g}"
        raise changed(file, episode, what)


def refuse_disorder(
    file: Path,
    first: int,
    begin: int,
    lengths: Sequence[int],
    columns: dict[str, NDArray[np.int64]],
) -> None:
    """Raises `UserError` if the frames of a file do not stand in their order.

    Args:
        file: the data file.
        first: number of its first episode.
        begin: number of its first frame in the dataset.
        lengths: frames of each of its episodes.
        columns: those of `ORDERED` that the file has.
    """
    expected = {
        "frame_index": np.concatenate([np.arange(length) for length in lengths]),
        "episode_index": np.repeat(np.arange(first, first + len(lengths)), lengths),
        "index": begin + np.arange(sum(lengths)),
    }
    for name, values in columns.items():
        if (values != expected[name]).any():
            row = int(np.flatnonzero(values != expected[name])[0])
            raise changed(
                file,
                int(expected["episode_index"][row]),
                f"column {name} is {values[row]} in frame {expected['frame_index'][row]}: rows "
                "are missing or in another order",
            )


def _suspects(root: Path, episode: int, table: pa.Table) -> list[str]:
    """Columns of an episode that differ from their recorded statistics or cannot be right."""
    recorded = _recorded_statistics(root, episode)
    found = []
    for name in FEATURES:
        if name == IMAGE or name not in table.column_names:
            continue
        values = values_of(table[name])
        told = recorded.get(name)
        if told is not None:
            now = statistics.of_values(values)
            same = all(np.allclose(told[k], now[k], rtol=1e-6) for k in ("min", "max", "mean"))
        else:
            # Actions and labels lie between -1 and 1.
            same = name not in (ACTION, CHUNKS) or bool((np.abs(values) <= 1 + 1e-6).all())
        if not same:
            found.append(name)
    # The same numbers in another order leave no trace in statistics, and labels have none.
    return found or [f"{CHUNKS}, {IMAGE} or the order of the frames"]


def _recorded_statistics(root: Path, episode: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet")):
        with open_parquet(path) as file:
            groups, names = range(file.num_row_groups), file.schema_arrow.names
        wanted = [name for name in names if name.startswith("stats/")]
        for row in read_groups(path, groups, ["episode_index", *wanted]).to_pylist():
            if row["episode_index"] == episode:
                for name in wanted:
                    _, feature, measure = name.split("/", 2)
                    found.setdefault(feature, {})[measure] = row[name]
    return {name: told for name, told in found.items() if {"min", "max", "mean"} <= set(told)}
