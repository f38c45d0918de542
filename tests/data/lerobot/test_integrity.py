"""Datasets that were damaged or changed since they were recorded: a sentence at the door."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm4vla.commands import cache as command
from vlm4vla.data.cache import build_cache, open_cache
from vlm4vla.data.lerobot import finish, parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.lerobot.schema import arrow_schema
from vlm4vla.data.lerobot.tables import values_of
from vlm4vla.data.pictures import encode_png
from vlm4vla.errors import UserError

Change = Callable[[pa.Table], pa.Table]
FOURTH = 3
"""The episode that is changed."""


def data_file(root: Path) -> Path:
    [path] = root.rglob("data/chunk-000/file-000.parquet")
    return path


def change(root: Path, how: Change) -> None:
    """Rewrites the fourth episode of a dataset, the rest as it was, with true page checksums."""
    path = data_file(root)
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    groups[FOURTH] = how(groups[FOURTH])
    with pq.ParquetWriter(path, groups[FOURTH].schema, write_page_checksum=True) as writer:
        for group in groups:
            kept = group.select(groups[FOURTH].column_names)
            writer.write_table(kept.cast(groups[FOURTH].schema))


def replaced(table: pa.Table, name: str, values: np.ndarray, kind: pa.DataType = None) -> pa.Table:
    kind = kind or table.schema.field(name).type
    flat = pa.array(values.reshape(-1), kind.value_type)
    column = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return table.set_column(table.column_names.index(name), name, column)


def put(name: str, row: int, component: int, value: float) -> Change:
    def how(table: pa.Table) -> pa.Table:
        values = values_of(table[name]).copy()
        values[row, component] = value
        return replaced(table, name, values)

    return how


def scaled(name: str, factor: float) -> Change:
    return lambda table: replaced(table, name, values_of(table[name]) * np.float32(factor))


def reversed_rows(table: pa.Table) -> pa.Table:
    return table.take(pa.array(range(len(table) - 1, -1, -1)))


def swapped_rows(table: pa.Table) -> pa.Table:
    """Two frames change places; the columns that number them stay, as if they were renewed."""
    order = list(range(len(table)))
    order[1], order[2] = 2, 1
    numbers = {name: table[name] for name in ("timestamp", "frame_index", "index")}
    taken = table.take(pa.array(order))
    for name, column in numbers.items():
        taken = taken.set_column(taken.column_names.index(name), name, column)
    return taken


def smaller_pictures(table: pa.Table) -> pa.Table:
    cell = {"bytes": encode_png(np.zeros((64, 64, 3), np.uint8)), "path": None}
    name = "observation.images.policy"
    column = pa.array([cell] * len(table), table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), name, column)


def doubled(name: str) -> Change:
    def how(table: pa.Table) -> pa.Table:
        kind = pa.list_(pa.float64(), table.schema.field(name).type.list_size)
        return replaced(table, name, values_of(table[name]).astype(np.float64), kind)

    return how


CHANGES: dict[str, tuple[Change, str]] = {
    "NaN in a label": (put("label.chunks", 2, 5, np.nan), r"label\.chunks is nan in frame 2"),
    "NaN in the state": (put("observation.state", 1, 0, np.nan), "state is nan in frame 1"),
    "infinite position": (put("things.positions", 0, 2, np.inf), "positions is inf in frame 0"),
    "NaN in an action": (put("action", 1, 6, np.nan), "column action is nan in frame 1"),
    "labels times 100": (scaled("label.chunks", 100), r"column label\.chunks: not what was"),
    "positions times 100": (scaled("things.positions", 100), r"things\.positions: not what was"),
    "one label changed": (put("label.chunks", 2, 5, 0.125), r"label\.chunks.* or the order"),
    "one opening changed": (put("observation.state", 2, 3, 0.5), r"observation\.state: not what"),
    "rows reversed": (reversed_rows, "column frame_index is .* another order"),
    "rows swapped": (swapped_rows, "the order of the frames: not what was recorded"),
    "a row gone": (lambda table: table.slice(1), "frames instead of"),
    "other pictures": (smaller_pictures, "holds pictures of 64 x 64 instead of 128 x 128"),
    "float64": (doubled("observation.state"), "state holds .*double.* instead of .*float"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_refused_with_file_episode_and_column(
    what: str, dataset: Path, tmp_path: Path
) -> None:
    how, complaint = CHANGES[what]
    change(dataset, how)
    with pytest.raises(UserError, match=complaint) as caught:
        build_cache([dataset], tmp_path / "cache")
    assert str(data_file(dataset)) in caught.value.problem
    if what != "a row gone":
        assert f"episode {FOURTH}, column" in caught.value.problem or what == "float64"
    assert "\n" not in str(caught.value) and caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize(
    "name", ["observation.images.policy", "observation.state", "label.chunks", "next.done"]
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_column_that_is_gone_is_named(
    name: str, listed: bool, dataset: Path, tmp_path: Path
) -> None:
    change(dataset, lambda table: table.drop_columns([name]))
    if not listed:
        info = json.loads((dataset / "meta/info.json").read_text())
        del info["features"][name]
        (dataset / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=f"file-000.parquet has no column {name}") as caught:
        build_cache([dataset], tmp_path / "cache")
    assert caught.value.fix


def rewritten(root: Path, **columns: Callable[[list], list]) -> None:
    """Changes columns of `meta/episodes`."""
    [path] = root.rglob("meta/episodes/chunk-000/file-000.parquet")
    table = pq.read_table(path)
    for name, how in columns.items():
        column = pa.array(how(table[name].to_pylist()), table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)


def test_episodes_that_begin_elsewhere_are_refused(dataset: Path) -> None:
    rewritten(dataset, dataset_from_index=lambda begins: [*begins[:-1], begins[-1] - 3])
    with pytest.raises(UserError, match=r"meta/episodes is damaged: dataset_from_index does not"):
        open_dataset(dataset)


def test_goals_that_do_not_fit_the_frames_are_refused(dataset: Path) -> None:
    def more(texts: list[str]) -> list[str]:
        info = json.loads(texts[FOURTH])
        info["things"] = [*info["things"], *["green cube"] * 5]
        return [*texts[:FOURTH], json.dumps(info), *texts[FOURTH + 1 :]]

    rewritten(dataset, **{"vlm4vla/info": more})
    with pytest.raises(UserError, match=f"episode {FOURTH}, positions is float32"):
        open_dataset(dataset).recording(FOURTH)


def test_a_value_and_a_picture_that_are_missing_are_named(dataset: Path) -> None:
    def without(name: str) -> Change:
        def how(table: pa.Table) -> pa.Table:
            kept = table[name].to_pylist()
            kept[1] = {"bytes": None, "path": None} if isinstance(kept[1], dict) else None
            column = pa.array(kept, table.schema.field(name).type)
            return table.set_column(table.column_names.index(name), name, column)

        return how

    change(dataset, without("next.done"))
    with pytest.raises(UserError, match=r"episode 3, column next\.done: a value is missing"):
        open_dataset(dataset).recording(FOURTH)
    change(
        dataset,
        lambda table: table.set_column(
            table.column_names.index("next.done"), "next.done", pa.array([False] * len(table))
        ),
    )
    change(dataset, without("observation.images.policy"))
    with pytest.raises(UserError, match="episode 3, a picture: "):
        open_dataset(dataset).recording(FOURTH)


def test_columns_that_are_read_alone_are_checked_as_well(dataset: Path) -> None:
    change(dataset, put("label.chunks", 2, 5, np.nan))
    opened = open_dataset(dataset)
    for read in (
        lambda: opened.column("label.chunks"),
        lambda: opened.values(FOURTH, "label.chunks"),
        lambda: opened.recording(FOURTH),
    ):
        with pytest.raises(UserError, match=f"episode {FOURTH}, column label.chunks is nan"):
            read()
    assert np.isfinite(opened.values(FOURTH - 1, "label.chunks")).all()


def test_episodes_that_change_places_are_noticed(dataset: Path) -> None:
    path = data_file(dataset)
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    with pq.ParquetWriter(path, arrow_schema(), write_page_checksum=True) as writer:
        for group in [groups[1], groups[0], *groups[2:]]:
            writer.write_table(group.cast(arrow_schema()))
    with pytest.raises(UserError, match="episode 0, column episode_index is 1 in frame 0"):
        open_dataset(dataset)


def test_a_fingerprint_of_other_episodes_is_refused(dataset: Path) -> None:
    ours = dataset / "meta/vlm4vla.json"
    described = json.loads(ours.read_text())
    ours.write_text(json.dumps(described | {"fingerprint": "0" * 64}))
    with pytest.raises(UserError, match=r"vlm4vla\.json is damaged: its fingerprint is not"):
        open_dataset(dataset)


def test_a_dataset_whose_episodes_have_no_fingerprint_still_opens(
    dataset: Path, tmp_path: Path
) -> None:
    """Whatever else can be checked is."""
    [path] = dataset.rglob("meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["vlm4vla/fingerprint"]), path)
    build_cache([dataset], tmp_path / "cache")
    assert len(open_cache(tmp_path / "cache")) == len(open_dataset(dataset))
    change(dataset, put("label.chunks", 2, 5, np.nan))
    with pytest.raises(UserError, match=r"label\.chunks is nan"):
        build_cache([dataset], tmp_path / "cache")


def test_labels_that_change_with_all_fingerprints_of_episodes_gone_are_noticed(
    dataset: Path, tmp_path: Path
) -> None:
    change(dataset, scaled("label.chunks", 100))
    [path] = dataset.rglob("meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["vlm4vla/fingerprint"]), path)
    with pytest.raises(UserError, match=r"whose fingerprint stands in meta/vlm4vla\.json"):
        build_cache([dataset], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def cell(file: str, name: str, row: int, value: Any) -> Callable[[Path], None]:
    """Puts a value into a column of a file of a dataset."""

    def how(root: Path) -> None:
        path = root / file
        table = pq.read_table(path)
        values = table[name].to_pylist()
        values[row] = value(values[row]) if callable(value) else value
        column = pa.array(values, table.schema.field(name).type)
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, column), path)

    return how


def told(**changes: Any) -> Callable[[Path], None]:
    def how(root: Path) -> None:
        path = root / "meta/info.json"
        described = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))

    return how


def informed(**changes: Any) -> Callable[[Path], None]:
    def edited(text: str) -> str:
        return json.dumps(json.loads(text) | changes)

    return cell(EPISODES, "vlm4vla/info", 1, edited)


DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TOLD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a time that is none": (
        cell(DATA, "timestamp", 2, np.nan),
        r"file-000\.parquet .*episode 0, column timestamp is nan in frame 2",
    ),
    "another time": (cell(DATA, "timestamp", 2, 0.5), "timestamp is 0.5 in frame 2, not 0.1"),
    "another number of a frame": (cell(DATA, "index", 2, 7), "column index is 7 in frame 2"),
    "another sentence": (
        cell("meta/tasks.parquet", "task", 0, "dance"),
        "episode 0, column task_index stands for 'dance', not for one of its",
    ),
    "a sentence that is not there": (
        cell(DATA, "task_index", 2, 99),
        "column task_index stands for None",
    ),
    "another frame rate": (told(fps=10), r"timestamp is 0.05 in frame 1, not 0\.1"),
    "no frame rate": (told(fps=0), r"info\.json is damaged: 0 frames a second"),
    "no count": (told(total_frames=None), "info.json is damaged: it lacks 'total_frames'"),
    "no length": (cell(EPISODES, "length", 1, None), "row 1, column length is empty"),
    "one fingerprint gone": (
        cell(EPISODES, "vlm4vla/fingerprint", 1, None),
        "episode 1, column vlm4vla/fingerprint is empty",
    ),
    "no JSON": (
        cell(EPISODES, "vlm4vla/info", 1, "{"),
        r"episodes/chunk-000/file-000\.parquet .*episode 1, column vlm4vla/info: Expecting",
    ),
    "a seed that is a word": (informed(seed="one"), "seed 'one' of layout .* is no scene"),
    "an unknown layout": (informed(layout="moon"), "of layout 'moon' is no scene"),
    "a goal that is a number": (informed(goal=3), r"episode 1, column vlm4vla/info: .*mapping"),
    "no fingerprint": (
        lambda root: (root / "meta/vlm4vla.json").unlink(),
        r"vlm4vla\.json holds no fingerprint, or is missing\. Copy",
    ),
    "a column twice": (
        lambda root: pq.write_table(
            (table := pq.read_table(root / DATA)).append_column("action", table["action"]),
            root / DATA,
        ),
        "it has two columns action",
    ),
}


@pytest.mark.parametrize("what", TOLD)
def test_what_is_told_of_frames_and_episodes_is_checked(what: str, dataset: Path) -> None:
    damage, words = TOLD[what]
    damage(dataset)
    with pytest.raises(UserError, match=words):
        open_dataset(dataset)


@pytest.mark.parametrize("copied", [True, False])
def test_one_dataset_given_twice_is_refused(copied: bool, dataset: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    if copied:
        shutil.copytree(dataset, again)
    else:
        again.symlink_to(dataset)
    for twice in ([dataset, dataset], [dataset, again]):
        with pytest.raises(UserError, match="each would count twice") as caught:
            build_cache(twice, tmp_path / "cache")
        assert str(twice[1]) in caught.value.problem
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("dangling", [True, False])
def test_a_cache_may_be_behind_a_link(dangling: bool, dataset: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "link"
    link.symlink_to(disk / "cache")
    if not dangling:
        build_cache([dataset], disk / "cache")
    build_cache([dataset], link)
    assert link.is_symlink()
    assert len(open_cache(link)) == len(open_dataset(dataset))
    assert sorted(path.name for path in disk.iterdir()) == ["cache"]
    # The dataset is found from there, so that a change of it is noticed.
    ours = dataset / "meta/vlm4vla.json"
    described = json.loads(ours.read_text())
    ours.write_text(json.dumps(described | {"fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="earlier state"):
        open_cache(link)


def few(recordings: list, count: int, root: Path) -> Path:
    for index, recording in enumerate(recordings[:count]):
        parts.write_part(root, index, recording)
    finish.finish(root, count, {})
    return root


def test_a_handful_of_episodes_leaves_one_scene_to_check_on(
    recordings: list, tmp_path: Path
) -> None:
    build_cache([few(recordings, 3, tmp_path / "data")], tmp_path / "cache")
    cache = open_cache(tmp_path / "cache")
    # Seeds 1,000,000 to 1,000,002 are all drawn above one in twenty, as their draws say.
    draws = [np.random.default_rng([1_000_000 + i, 3]).random() for i in range(3)]
    assert min(draws) >= 0.05
    assert set(cache.episode[cache.split().validation]) == {int(np.argmin(draws))}
    assert len(cache.split().train) + len(cache.split().validation) == len(cache)


def test_one_scene_is_told_to_be_too_few(
    recordings: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = few(recordings, 1, tmp_path / "data")
    arguments = argparse.Namespace(data=[root], out=tmp_path / "cache")
    assert command.run(arguments) == 0
    said = capsys.readouterr()
    assert "0 to check on" in said.out
    assert "training needs at least two, one of them to check on: collect 2 or more" in said.err
