"""Tables of episodes as parquet files, for other programs and for shipping results.

`COLUMNS` is the one declaration of the file's schema; docs/episodes.md is made from it.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from vlm4vla import files
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Episode, EpisodeSpec, Event, Outcome, Prediction, Times, Trace
from vlm4vla.core.observation import Array
from vlm4vla.episodes.filters import (
    EVERYTHING,
    Filter,
    Membership,
    condition_key,
    to_text,
)
from vlm4vla.episodes.plain import agents_from_json, agents_to_json
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_MARK: Final = b"vlm4vla.episodes"
_FORMAT: Final = 1
_BATCH: Final = 500


class Column(NamedTuple):
    """A column of the file.

    Attributes:
        name: what it is called.
        type: its parquet type.
        meaning: what it holds, for people.
        value: takes it from an entry.
    """

    name: str
    type: str
    meaning: str
    value: Callable[[Entry], Any]


_CONTENT: Final = (
    Column(
        "id",
        "string",
        "sixteen hexadecimal digits, a function of specification, agents and versions",
        lambda entry: entry.episode.id,
    ),
    Column(
        "legacy_id",
        "string",
        "the id that an earlier version knew it by, or empty",
        lambda entry: entry.legacy_id,
    ),
    Column("suite", "string", "benchmark suite", lambda entry: entry.episode.spec.suite),
    Column(
        "task",
        "string",
        "what the scene was drawn for",
        lambda entry: entry.episode.spec.task,
    ),
    Column(
        "goal_task",
        "string",
        "the task that was carried out",
        lambda entry: entry.episode.goal_task,
    ),
    Column("seed", "int64", "the scene's seed", lambda entry: entry.episode.spec.seed),
    Column(
        "instruction",
        "string",
        "the sentence as the agent was told it",
        lambda entry: entry.episode.spec.instruction,
    ),
    Column(
        "goal",
        "string",
        "JSON: what success was measured by, in the suite's own terms",
        lambda entry: to_text(dict(entry.episode.spec.goal)),
    ),
    Column(
        "condition",
        "string",
        "JSON: everything that was changed on purpose; what is as usual is left out",
        lambda entry: condition_key(entry.episode.spec.condition),
    ),
    Column(
        "parent",
        "string",
        "id of the episode that this one branches off from, or empty",
        lambda entry: entry.episode.spec.parent,
    ),
    Column(
        "branch_step",
        "int32",
        "control step of the parent at which it branches off",
        lambda entry: entry.episode.spec.branch_step,
    ),
    Column(
        "agents",
        "string",
        "JSON: who acted from which control step on: first_step, kind, digest, name",
        lambda entry: to_text(agents_to_json(entry.episode.agents)),
    ),
    Column(
        "outcome",
        "string",
        "success, stopped, or the kind of failure",
        lambda entry: entry.episode.outcome.kind,
    ),
    Column(
        "success",
        "bool",
        "whether the goal was reached",
        lambda entry: entry.episode.outcome.success,
    ),
    Column(
        "sentence",
        "string",
        "the outcome for people",
        lambda entry: entry.episode.outcome.sentence,
    ),
    Column(
        "measures",
        "string",
        "JSON: further results by name",
        lambda entry: to_text(dict(entry.episode.outcome.measures)),
    ),
    Column(
        "steps",
        "int32",
        "control steps that were carried out",
        lambda entry: entry.episode.steps,
    ),
    Column(
        "events",
        "string",
        "JSON: pairs of a control step and what happened in it",
        lambda entry: to_text([list(event) for event in entry.episode.events]),
    ),
    Column(
        "reading",
        "string",
        "JSON: how the instruction was understood; empty where it was drawn",
        lambda entry: to_text(dict(entry.episode.reading)),
    ),
    Column(
        "source",
        "string",
        "evaluation, live, rollout or collection",
        lambda entry: entry.episode.source,
    ),
    Column(
        "versions",
        "string",
        "JSON: versions of everything that changes results",
        lambda entry: to_text(dict(entry.episode.versions)),
    ),
    Column(
        "memberships",
        "string",
        "JSON: pairs of a kind and a name: the evaluations, studies and the like it belongs to",
        lambda entry: to_text([list(one) for one in entry.memberships]),
    ),
    Column(
        "labels",
        "string",
        "JSON: what people said of it: label, who, note, created; the last one of a person counts",
        lambda entry: to_text([one._asdict() for one in entry.labels]),
    ),
    Column("created", "double", "seconds since the epoch", lambda entry: entry.created),
    Column(
        "began",
        "double",
        "when it began, in seconds since the epoch; 0 if that is not known",
        lambda entry: entry.episode.times.began,
    ),
    Column(
        "think_ms",
        "double",
        "mean time of an inference",
        lambda entry: entry.episode.times.think_ms,
    ),
    Column(
        "physics_ms",
        "double",
        "mean time of a control step without pictures",
        lambda entry: entry.episode.times.physics_ms,
    ),
    Column(
        "actions",
        "list<float>",
        "executed actions, (T, d) in row-major order",
        lambda entry: _flat([entry.episode.actions]),
    ),
    Column(
        "actions_shape",
        "list<int32>",
        "T and d",
        lambda entry: list(entry.episode.actions.shape),
    ),
    Column(
        "joints",
        "list<float>",
        "joint positions at the start and after every step, (T + 1, j)",
        lambda entry: _flat([entry.episode.trace.joints]),
    ),
    Column(
        "joints_shape",
        "list<int32>",
        "T + 1 and j",
        lambda entry: list(entry.episode.trace.joints.shape),
    ),
    Column(
        "poses",
        "list<float>",
        "poses of the movable objects, (T + 1, k, 7): x, y, z in metres and the quaternion "
        "(w, x, y, z), world frame",
        lambda entry: _flat([entry.episode.trace.poses]),
    ),
    Column(
        "poses_shape",
        "list<int32>",
        "T + 1, k and 7",
        lambda entry: list(entry.episode.trace.poses.shape),
    ),
    Column(
        "chunks",
        "list<float>",
        "predicted chunks one after another, each (n, d)",
        lambda entry: _flat([one.chunk for one in entry.episode.predictions]),
    ),
    Column(
        "chunk_shapes",
        "list<int32>",
        "n and d of every chunk, one after another",
        lambda entry: [n for one in entry.episode.predictions for n in one.chunk.shape],
    ),
    Column(
        "chunk_steps",
        "list<int32>",
        "the control step that each chunk was predicted at",
        lambda entry: [one.step for one in entry.episode.predictions],
    ),
)

COLUMNS: Final = (
    *_CONTENT,
    Column(
        "checksum",
        "string",
        "sixteen hexadecimal digits over the columns before: a row that was edited is refused",
        lambda entry: _checksum({one.name: one.value(entry) for one in _CONTENT}),
    ),
)

_NUMBERS: Final = tuple(one.name for one in COLUMNS if one.type == "double")
"""Columns whose numbers the table needs; what arrays hold is kept as it is."""


def export(
    table: EpisodeTable,
    path: Path,
    wanted: Filter = EVERYTHING,
    *,
    traces: bool = True,
    further: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> int:
    """Writes episodes into a parquet file, arrays and all; how many.

    Args:
        table: where they are.
        path: the file, replaced when it is whole.
        wanted: which.
        traces: with what pictures are drawn from and what was predicted. Without, a file is about
            a tenth as large: the actions that were carried out stay, and so do all ids.
        further: columns of text that `import_` takes no notice of: name -> id -> text.

    Raises:
        UserError: the disk is full or not writable, or see `EpisodeTable.entries`.
    """
    import pyarrow
    import pyarrow.parquet

    count = 0
    schema = _schema(further)
    with (
        files.replacing(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, **_layout()) as writer,
    ):
        for batch in _batches(table.entries(wanted)):
            batch = batch if traces else [_without_traces(entry) for entry in batch]
            columns = [
                pyarrow.array([column.value(entry) for entry in batch], schema.field(place).type)
                for place, column in enumerate(COLUMNS)
            ]
            columns += [
                pyarrow.array([texts[entry.episode.id] for entry in batch], pyarrow.string())
                for texts in further.values()
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            count += len(batch)
    return count


def import_(path: Path, table: EpisodeTable) -> int:
    """Brings the episodes of a parquet file in; how many the table did not hold.

    An episode that the table holds stays as it is there, with the file's memberships and labels
    added.

    Args:
        path: a file of `export`.
        table: where they go.

    Raises:
        UserError: there is no such file, it is none of `export`, is damaged, or a newer version
            wrote it; or see `EpisodeTable.put_all`.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Name one of `vlm4vla episodes export`.")
    came = number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check(path, file.schema_arrow)
            for batch in file.iter_batches(_BATCH):
                entries = [_checked(row, n) for n, row in enumerate(_rows(batch), number + 1)]
                number += len(entries)
                came += table.put_new(entries)
    except (
        pyarrow.ArrowException,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} cannot be read as a table of episodes: {error}.",
            "Export it again, or download it again.",
        ) from error
    return came


def import_shipped(table: EpisodeTable, folder: Path) -> int:
    """Brings in every parquet file of a folder whose content was not brought in before.

    Args:
        table: where they go.
        folder: such as the results that come with the project.

    Raises:
        UserError: see `import_`.
    """
    came = 0
    for path, mark in pending(table, folder):
        came += import_(path, table)
        table.mark_imported(mark, path.name)
    return came


def pending(table: EpisodeTable, folder: Path) -> list[tuple[Path, str]]:
    """The parquet files of a folder that were not brought in before, each with its mark."""
    marks = (
        (path, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob("*.parquet"))
    )
    return [(path, mark) for path, mark in marks if not table.imported(mark)]


def describe() -> list[str]:
    """The schema as the lines of a Markdown table."""
    lines = ["| column | type | holds |", "|---|---|---|"]
    return lines + [f"| `{one.name}` | `{one.type}` | {one.meaning} |" for one in COLUMNS]


def _layout() -> dict[str, Any]:
    """How a file is written: planes of bytes for floats, which halves it."""
    floats = [one.name for one in COLUMNS if one.type == "list<float>"]
    planes = {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in floats}
    others = [
        f"{one.name}.list.element" if one.type.startswith("list") else one.name
        for one in COLUMNS
        if one.name not in floats
    ]
    return {
        "compression": "zstd",
        "compression_level": 9,
        "use_dictionary": others,
        "column_encoding": planes,
    }


def _schema(further: Iterable[str]) -> "pyarrow.Schema":
    import pyarrow

    types = {
        "string": pyarrow.string(),
        "bool": pyarrow.bool_(),
        "int32": pyarrow.int32(),
        "int64": pyarrow.int64(),
        "double": pyarrow.float64(),
        "list<float>": pyarrow.list_(pyarrow.float32()),
        "list<int32>": pyarrow.list_(pyarrow.int32()),
    }
    fields = [pyarrow.field(one.name, types[one.type], nullable=False) for one in COLUMNS]
    fields += [pyarrow.field(name, pyarrow.string(), nullable=False) for name in further]
    return pyarrow.schema(fields, metadata={_MARK: str(_FORMAT)})


def _check(path: Path, schema: "pyarrow.Schema") -> None:
    found = (schema.metadata or {}).get(_MARK)
    if found is None:
        raise UserError(
            f"{path} is no exported table of episodes.", "Make one by `vlm4vla episodes export`."
        )
    if int(found) > _FORMAT:
        raise UserError(f"{path} was written by a newer version of VLM4VLA.", "Update VLM4VLA.")


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_traces(entry: Entry) -> Entry:
    return entry._replace(episode=replace(entry.episode, predictions=(), trace=Trace.empty()))


def _flat(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.float32), *(array.ravel() for array in arrays)])


def _shaped(values: Sequence[float], shape: Sequence[int]) -> Array:
    return np.array(values, np.float32).reshape(shape)


def _rows(batch: "pyarrow.RecordBatch") -> Iterator[dict[str, Any]]:
    """The rows of a batch; lists of floats as arrays, which takes a third of the time."""
    floats = {one.name for one in COLUMNS if one.type == "list<float>"}
    names = batch.schema.names
    columns = [
        _arrays(batch.column(name)) if name in floats else batch.column(name).to_pylist()
        for name in names
    ]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _arrays(lists: "pyarrow.ListArray") -> list[Array]:
    ends = lists.offsets.to_numpy()
    values = lists.values.to_numpy(zero_copy_only=False)
    return [values[begin:end] for begin, end in pairwise(ends)]


def _checked(row: dict[str, Any], number: int) -> Entry:
    for name in _NUMBERS:
        if not math.isfinite(row[name]):
            raise ValueError(f"row {number}, column {name!r}: not a finite number")
    entry = _entry(row)
    if entry.episode.id != row["id"]:
        raise ValueError(f"row {number}: episode {row['id']} is not what its id says")
    # Earlier versions wrote none.
    if row.get("checksum") not in (None, _checksum(row)):
        raise ValueError(f"row {number}: episode {row['id']} is not what was exported")
    # The id says nothing about results, which some columns tell twice.
    found = entry.episode
    for name, value in (("success", found.outcome.success), ("goal_task", found.goal_task)):
        if row[name] != value:
            raise ValueError(
                f"row {number}, column {name!r}: it is {row[name]!r}, and the others say {value!r}"
            )
    return entry


def _checksum(row: Mapping[str, Any]) -> str:
    """Of a row's values, as they are written or as they were read."""
    digest = hashlib.sha256()
    for column in _CONTENT:
        value = row[column.name]
        if column.type.startswith("list"):
            kind = np.float32 if column.type == "list<float>" else np.int32
            content = np.asarray(value, kind).tobytes()
        else:
            plain = {"string": str, "bool": bool, "double": float}.get(column.type, int)
            content = repr(plain(value)).encode()
        digest.update(f"{column.name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:16]


def _entry(row: dict[str, Any]) -> Entry:
    spec = EpisodeSpec(
        suite=row["suite"],
        task=row["task"],
        seed=row["seed"],
        instruction=row["instruction"],
        goal=json.loads(row["goal"]),
        condition=Condition.from_json(json.loads(row["condition"])),
        parent=row["parent"],
        branch_step=row["branch_step"],
    )
    episode = Episode(
        spec=spec,
        agents=agents_from_json(json.loads(row["agents"])),
        outcome=Outcome(row["outcome"], row["sentence"], json.loads(row["measures"])),
        steps=row["steps"],
        events=tuple(Event(step, name) for step, name in json.loads(row["events"])),
        actions=_shaped(row["actions"], row["actions_shape"]),
        predictions=tuple(_predictions(row)),
        trace=Trace(
            _shaped(row["joints"], row["joints_shape"]), _shaped(row["poses"], row["poses_shape"])
        ),
        times=Times(row["began"], row["think_ms"], row["physics_ms"]),
        source=row["source"],
        versions=json.loads(row["versions"]),
        reading=json.loads(row["reading"]),
    )
    return Entry(
        episode,
        tuple(Membership(*one) for one in json.loads(row["memberships"])),
        row["legacy_id"],
        row["created"],
        tuple(Label(**one) for one in json.loads(row["labels"])),
    )


def _predictions(row: dict[str, Any]) -> Iterator[Prediction]:
    start, shapes = 0, row["chunk_shapes"]
    for step, shape in zip(
        row["chunk_steps"], zip(shapes[::2], shapes[1::2], strict=True), strict=True
    ):
        size = math.prod(shape)
        yield Prediction(step, _shaped(row["chunks"][start : start + size], shape))
        start += size
