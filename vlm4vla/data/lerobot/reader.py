"""Reading datasets in the LeRobotDataset v3 layout, ours or anybody's with pictures in Parquet."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlm4vla.data.lerobot.integrity import (
    FINGERPRINT,
    ORDERED,
    changed,
    fingerprint_of,
    refuse_changed,
    refuse_disorder,
    refuse_nonfinite,
    refuse_other_sizes,
    refuse_other_times,
    refuse_other_types,
)
from vlm4vla.data.lerobot.layout import DATA_PATH, INFO, OURS, TASKS
from vlm4vla.data.lerobot.schema import (
    ACTION,
    CHUNK,
    CHUNKS,
    IMAGE,
    NEXT_DONE,
    NEXT_EVENTS,
    NEXT_SUCCESS,
    NOISY,
    PIXELS,
    POSITIONS,
    STATE,
    VELOCITY,
    EpisodeInfo,
    Recording,
    episode_info,
)
from vlm4vla.data.lerobot.tables import damaged, open_parquet, read_groups, values_of
from vlm4vla.data.pictures import decode_image
from vlm4vla.errors import UserError


@dataclass(frozen=True)
class EpisodeRow:
    """Where an episode lies.

    Attributes:
        index: its number.
        instructions: the sentences that its frames belong to.
        begin: global index of its first frame.
        length: number of frames.
        file: the data file that holds it, relative to the dataset.
        offset: row of that file at which it begins.
        info: what was recorded about it; None in datasets that we did not write.
        info_text: the text of `info` as it is stored.
        fingerprint: of its content when it was recorded; empty where nothing says so.
    """

    index: int
    instructions: tuple[str, ...]
    begin: int
    length: int
    file: str
    offset: int
    info: EpisodeInfo | None
    info_text: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class Dataset:
    """A dataset whose metadata has been read and whose data files are all there.

    Attributes:
        root: its folder.
        fps: frames a second.
        features: name to {"dtype", "shape", "names"}, as in `meta/info.json`.
        tasks: the instructions; position is the task index.
        episodes: in order.
        fingerprint: SHA-256 of the content; None in datasets that we did not write.
        settings: how it was collected; None in datasets that we did not write.
        groups: for each data file, the rows at which its row groups begin, and its length.
    """

    root: Path
    fps: int
    features: dict[str, dict[str, Any]]
    tasks: tuple[str, ...]
    episodes: tuple[EpisodeRow, ...]
    fingerprint: str | None
    settings: dict[str, Any] | None
    groups: dict[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return sum(episode.length for episode in self.episodes)

    def table(self, episode: int, columns: list[str] | None = None) -> pa.Table:
        """The frames of an episode, all columns or those named.

        Raises:
            UserError: the file is damaged, or a column is missing.
        """
        row = self.episodes[episode]
        starts = self.groups[row.file]
        first = int(np.searchsorted(starts, row.offset, side="right")) - 1
        last = int(np.searchsorted(starts, row.offset + row.length, side="left"))
        rows = read_groups(self.root / row.file, range(first, last), columns)
        return rows.slice(row.offset - int(starts[first]), row.length)

    def column(self, name: str) -> NDArray[Any]:
        """One column of all frames, (N,) or (N, d), in the order of the episodes.

        Raises:
            UserError: a file is damaged, or the column is missing, not numeric or not finite.
        """
        found = []
        for file, starts in self.groups.items():
            table = read_groups(self.root / file, range(len(starts) - 1), [name])
            try:
                values = values_of(table[name])
            except ValueError as error:
                raise damaged(self.root / file, error) from error
            for row in self.episodes:
                if row.file == file:
                    part = values[row.offset : row.offset + row.length]
                    refuse_nonfinite(self.root / file, row.index, name, part)
            found.append(values)
        return np.concatenate(found)

    def values(self, episode: int, column: str) -> NDArray[Any]:
        """One column of an episode as (T,) or (T, d).

        Raises:
            UserError: the file is damaged, or the column is missing, not numeric or not finite.
        """
        file = self.root / self.episodes[episode].file
        try:
            values = values_of(self.table(episode, [column])[column])
        except ValueError as error:
            raise damaged(file, error) from error
        refuse_nonfinite(file, episode, column, values)
        return values

    def images(self, episode: int, key: str = IMAGE) -> NDArray[np.uint8]:
        """The pictures of an episode, (T, height, width, 3) uint8 RGB.

        Raises:
            UserError: the camera is missing, its pictures are in a video, or one is damaged.
        """
        if self.features.get(key, {}).get("dtype") == "video":
            raise UserError(
                f"{self.root}: {key} is stored as video.",
                "Only pictures stored in Parquet can be read: videos smear colours.",
            )
        table = self.table(episode, [key])
        return self._decoded(episode, table[key])

    def recording(self, episode: int) -> Recording:
        """An episode of a dataset that this project recorded, as it was before it was stored.

        Raises:
            UserError: the dataset has no labels, a file is damaged, or the episode is not what was
                recorded.
        """
        row = self.episodes[episode]
        info = row.info
        if info is None:
            raise UserError(
                f"{self.root} has no labels for its instructions.",
                "Use a dataset made by `vlm4vla collect`.",
            )
        file = self.root / row.file
        table = self.table(episode)
        if missing := {IMAGE, *_RECORDED} - set(table.column_names):
            raise UserError(f"{file} has no column {', '.join(sorted(missing))}.", _AGAIN)
        refuse_other_types(file, episode, table, (IMAGE, *_RECORDED))
        goals, things = len(info.goals), len(info.things)
        values = {}
        for name in _RECORDED:
            try:
                values[name] = values_of(table[name])
            except ValueError as error:
                raise changed(file, episode, f"column {name}: {error}") from error
            refuse_nonfinite(file, episode, name, values[name])
        images = self._decoded(episode, table[IMAGE])
        refuse_other_sizes(file, episode, images)
        try:
            recording = Recording(
                info=info,
                images=images,
                state=values[STATE],
                velocity=values[VELOCITY],
                action=values[ACTION],
                chunks=values[CHUNKS].reshape(row.length, -1, CHUNK, 7)[:, :goals],
                noisy=values[NOISY],
                positions=values[POSITIONS].reshape(row.length, -1, 3)[:, :things],
                pixels=values[PIXELS][:, :things],
                events=values[NEXT_EVENTS],
                success=values[NEXT_SUCCESS],
                done=values[NEXT_DONE],
            )
        except ValueError as error:
            # What is known of the episode, its goals say, does not fit its frames.
            raise changed(file, episode, f"{error}") from error
        now = recording.fingerprint(row.info_text)
        refuse_changed(self.root, file, episode, table, row.fingerprint, now)
        return recording

    def _decoded(self, episode: int, column: pa.ChunkedArray) -> NDArray[np.uint8]:
        file = self.root / self.episodes[episode].file
        pictures = []
        for frame, cell in enumerate(column):
            try:
                pictures.append(decode_image(cell["bytes"].as_py()))
            except (OSError, TypeError, KeyError, ValueError) as error:
                what = f"a picture: that of frame {frame}, {error}"
                raise changed(file, episode, what) from error
        try:
            return np.stack(pictures)
        except ValueError as error:
            raise changed(file, episode, "its pictures differ in size") from error


_AGAIN = "Copy the dataset again, or collect it again."

_INFO_TEXT = "vlm4vla/info"

_RECORDED = (
    STATE,
    VELOCITY,
    ACTION,
    CHUNKS,
    NOISY,
    POSITIONS,
    PIXELS,
    NEXT_EVENTS,
    NEXT_SUCCESS,
    NEXT_DONE,
)


def open_dataset(root: Path) -> Dataset:
    """Reads a dataset's metadata and checks that every data file is there and as it says.

    Every file must have the columns that the metadata lists, and its frames in their order.
    What the columns hold is checked when it is read.

    Raises:
        UserError: `root` is not a finished dataset of layout v3, or a file is missing, damaged or
            changed.
    """
    if not (root / INFO).is_file():
        raise UserError(
            f"{root} is not a finished dataset: it has no {INFO}.",
            "Make one with `vlm4vla collect`, or run an interrupted collect again.",
        )
    info = _json(root / INFO)
    version = str(info.get("codebase_version"))
    if not version.startswith("v3"):
        raise UserError(
            f"{root} has layout {version}; v3.0 can be read.",
            "Convert it with lerobot's convert_dataset_v21_to_v30.",
        )
    ours = _json(root / OURS) if (root / OURS).is_file() else {}
    try:
        total = int(info["total_episodes"]), int(info["total_frames"])
        if int(info["fps"]) < 1:
            raise ValueError(f"{info['fps']} frames a second")
        episodes = tuple(_episodes(root, str(info.get("data_path") or DATA_PATH)))
        tasks = _tasks(root / TASKS)
        dataset = Dataset(
            root=root,
            fps=int(info["fps"]),
            features=dict(info["features"]),
            tasks=tasks,
            episodes=episodes,
            fingerprint=ours.get("fingerprint"),
            settings=ours.get("settings"),
            groups=_groups(root, episodes, _stored(info["features"]), int(info["fps"]), tasks),
        )
    except KeyError as error:
        raise damaged(root / INFO, ValueError(f"it lacks {error}")) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise damaged(root / INFO, error) from error
    if (len(dataset.episodes), len(dataset)) != total:
        raise UserError(
            f"{root / INFO} counts {total[0]} episodes of {total[1]} frames, but meta/episodes "
            f"{len(dataset.episodes)} of {len(dataset)}.",
            "Copy the dataset again.",
        )
    recorded = [row.fingerprint for row in episodes]
    if any(row.info for row in episodes) and not isinstance(dataset.fingerprint, str):
        raise UserError(
            f"{root / OURS} holds no fingerprint, or is missing.", "Copy the dataset again."
        )
    if any(recorded) and not all(recorded):
        reason = f"episode {recorded.index('')}, column {FINGERPRINT} is empty"
        raise damaged(root / "meta" / "episodes", ValueError(reason))
    if dataset.fingerprint and all(recorded) and fingerprint_of(recorded) != dataset.fingerprint:
        reason = "its fingerprint is not that of the episodes in meta/episodes"
        raise damaged(root / OURS, ValueError(reason))
    return dataset


def _stored(features: dict[str, dict[str, Any]]) -> list[str]:
    """The features that have a column; videos are files of their own."""
    return [name for name, feature in features.items() if feature.get("dtype") != "video"]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    if not isinstance(value, dict):
        raise damaged(path, ValueError("it is not a JSON object"))
    return value


def _tasks(path: Path) -> tuple[str, ...]:
    """The instructions by task index; they are a pandas index, whose column has many names."""
    with open_parquet(path) as file:
        table = file.read()
    described = (table.schema.pandas_metadata or {}).get("index_columns") or []
    named = [name for name in described if isinstance(name, str) and name in table.column_names]
    texts = [name for name in table.column_names if name != "task_index"]
    if not (named or texts) or "task_index" not in table.column_names:
        raise damaged(path, ValueError("it has no column of instructions with their task_index"))
    sentences = table[(named or texts)[0]].to_pylist()
    numbers = table["task_index"].to_pylist()
    if sorted(numbers) != list(range(len(numbers))):
        raise damaged(path, ValueError("its task_index does not count from 0"))
    return tuple(sentence for _, sentence in sorted(zip(numbers, sentences, strict=True)))


def _episodes(root: Path, data_path: str) -> Iterator[EpisodeRow]:
    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    rows: list[dict[str, Any]] = []
    paths = sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    if not paths:
        raise UserError(f"{root / 'meta' / 'episodes'} holds no files.", "Copy the dataset again.")
    for path in paths:
        with open_parquet(path) as file:
            groups, names = range(file.num_row_groups), file.schema_arrow.names
        ours = [name for name in (_INFO_TEXT, FINGERPRINT) if name in names]
        wanted = [*columns, "dataset_from_index", *ours]
        found = read_groups(path, groups, wanted).to_pylist()
        for number, row in enumerate(found):
            if empty := next(
                (name for name in (*columns, "dataset_from_index") if row[name] is None), None
            ):
                raise damaged(path, ValueError(f"row {number}, column {empty} is empty"))
            row["info"] = _info(path, row)
        rows += found
    rows.sort(key=lambda row: row["episode_index"])
    if [row["episode_index"] for row in rows] != list(range(len(rows))):
        raise damaged(paths[0], ValueError("episode_index does not count from 0"))
    begins: dict[str, int] = {}
    for row in rows:
        file_name = data_path.format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        begin = row["dataset_from_index"]
        yield EpisodeRow(
            index=row["episode_index"],
            instructions=tuple(row["tasks"]),
            begin=begin,
            length=row["length"],
            file=file_name,
            offset=begin - begins.setdefault(file_name, begin),
            info=row["info"],
            info_text=row.get(_INFO_TEXT) or "",
            fingerprint=row.get(FINGERPRINT) or "",
        )


def _info(path: Path, row: dict[str, Any]) -> EpisodeInfo | None:
    text = row.get(_INFO_TEXT)
    try:
        return None if text is None else episode_info(text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise changed(path, row["episode_index"], f"column {_INFO_TEXT}: {error}") from error


def _groups(
    root: Path,
    episodes: Sequence[EpisodeRow],
    features: Sequence[str],
    fps: int,
    tasks: Sequence[str],
) -> dict[str, NDArray[np.int64]]:
    """Where the row groups of every data file begin; the files hold what the episodes need."""
    needed: dict[str, list[EpisodeRow]] = defaultdict(list)
    for episode in episodes:
        needed[episode.file].append(episode)
    groups = {}
    for name, held in needed.items():
        ends = np.cumsum([row.length for row in held])
        if [row.offset for row in held] != [0, *ends[:-1]]:
            reason = f"dataset_from_index does not follow the lengths of the episodes in {name}"
            raise damaged(root / "meta" / "episodes", ValueError(reason))
        with open_parquet(root / name) as file:
            columns = file.schema_arrow.names
            if twice := sorted({name for name in columns if columns.count(name) > 1}):
                raise damaged(root / name, ValueError(f"it has two columns {twice[0]}"))
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        groups[name] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if groups[name][-1] != sum(row.length for row in held):
            reason = f"it has {groups[name][-1]} frames instead of {sum(r.length for r in held)}"
            raise damaged(root / name, ValueError(reason))
        if missing := [feature for feature in features if feature not in columns]:
            listed = f"{root / name} has no column {', '.join(missing)}, which {INFO} lists."
            raise UserError(listed, _AGAIN)
        _refuse_disorder(root / name, held, len(counts), columns, fps, tasks)
    return groups


def _refuse_disorder(
    path: Path,
    held: Sequence[EpisodeRow],
    groups: int,
    columns: Sequence[str],
    fps: int,
    tasks: Sequence[str],
) -> None:
    numbered = [name for name in (*ORDERED, "timestamp", "task_index") if name in columns]
    if not numbered:
        return
    table = read_groups(path, range(groups), numbered)
    try:
        values = {name: values_of(table[name]).reshape(-1) for name in numbered}
    except ValueError as error:
        raise damaged(path, error) from error
    order = {name: values[name] for name in ORDERED if name in values}
    refuse_disorder(path, held[0].index, held[0].begin, [row.length for row in held], order)
    for row in held:
        here = slice(row.offset, row.offset + row.length)
        if "timestamp" in values:
            # Others may have recorded at times of their own.
            every = 1 / fps if row.info else None
            refuse_other_times(path, row.index, values["timestamp"][here], every)
        if "task_index" in values:
            numbers = values["task_index"][here]
            told = [tasks[n] if 0 <= n < len(tasks) else None for n in np.unique(numbers)]
            if odd := [sentence for sentence in told if sentence not in row.instructions]:
                reason = f"column task_index stands for {odd[0]!r}, not for one of its instructions"
                raise changed(path, row.index, reason)
