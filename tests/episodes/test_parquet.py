import resource
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.episodes.examples import EVALUATION, LIVE, content, example
from vlm4vla.core.episode import AgentId, AgentSpan, Prediction, Trace
from vlm4vla.episodes.arrays import NO_ARRAYS
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.parquet import COLUMNS, describe, export, import_, import_shipped
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError


def filled() -> EpisodeTable:
    table = EpisodeTable.in_memory()
    table.put(example(1), [EVALUATION, LIVE], legacy_id="ab" * 8, created=5.25)
    table.label(example(1).id, "odd", "ann", "at the rim", created=3.5)
    table.label(example(1).id, "fine", "bob", created=4.5)
    table.put(example(2, noisy=True, reading="unknown", source="live", outcome="dropped"), [LIVE])
    agents = (AgentSpan(AgentId("policy", "aa", "one")), AgentSpan(AgentId("expert", "e"), 5))
    table.put(example(3, agents=agents, parent="0" * 16, branch_step=4))
    bare = example(4, actions=NO_ARRAYS.actions, predictions=(), trace=Trace.empty(), events=())
    table.put(bare)
    odd = np.array([[np.nan, -0.0, 1e-45]], np.float32)
    chunks = (Prediction(0, odd), Prediction(1, np.ones((5, 7), np.float32)))
    trace = Trace(odd, np.zeros((1, 0, 7), np.float32))
    table.put(example(5, actions=odd, predictions=chunks, trace=trace))
    return table


def everything(table: EpisodeTable) -> dict[str, object]:
    return {
        one.episode.id: (content(one.episode), one[1:], table.row(one.episode.id).current)
        for one in table.entries()
    }


def test_a_table_comes_back_exactly(tmp_path: Path) -> None:
    table = filled()
    assert export(table, tmp_path / "all.parquet") == 5
    again = EpisodeTable.in_memory()
    assert import_(tmp_path / "all.parquet", again) == 5
    assert everything(again) == everything(table)


def test_without_traces_the_ids_and_the_executed_actions_stay(tmp_path: Path) -> None:
    table, again = filled(), EpisodeTable.in_memory()
    export(table, tmp_path / "all.parquet")
    export(table, tmp_path / "small.parquet", traces=False)
    assert import_(tmp_path / "small.parquet", again) == 5
    for entry in table.entries():
        kept = again.get(entry.episode.id)
        np.testing.assert_array_equal(kept.actions, entry.episode.actions)
        assert kept.outcome == entry.episode.outcome and not kept.predictions
        assert kept.trace.joints.size == kept.trace.poses.size == 0
    assert (tmp_path / "small.parquet").stat().st_size < (tmp_path / "all.parquet").stat().st_size


@pytest.mark.parametrize("largest", [0, 1_000])
def test_a_full_disk_is_one_sentence_and_leaves_the_file_that_was_there(
    tmp_path: Path, largest: int
) -> None:
    """A limit on the size of files stands for the disk: what is written beyond it is refused."""
    target, table = tmp_path / "all.parquet", filled()
    target.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        with pytest.raises(UserError, match=r"Could not write .*/all\.parquet: File too large\."):
            export(table, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_the_file_holds_what_is_declared(tmp_path: Path) -> None:
    export(filled(), tmp_path / "all.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    kinds = {"float": "list<float>", "int32": "list<int32>"}
    types = [
        kinds[str(one.type.value_type)] if pyarrow.types.is_list(one.type) else str(one.type)
        for one in found.schema
    ]
    assert found.schema.names == [one.name for one in COLUMNS]
    assert types == [one.type for one in COLUMNS]
    row = found.to_pylist()[0]
    episode = example(1)
    actions = np.array(row["actions"], np.float32).reshape(row["actions_shape"])
    assert np.array_equal(actions, episode.actions)
    poses = np.array(row["poses"], np.float32).reshape(row["poses_shape"])
    assert np.array_equal(poses, episode.trace.poses)
    assert row["chunk_steps"] == [0, 4, 8] and row["chunk_shapes"] == [4, 7] * 3
    assert row["condition"] == '{"words":"known"}'
    assert row["memberships"] == '[["evaluation","reported"],["live",""]]'


def test_a_filter_chooses_what_is_exported(tmp_path: Path) -> None:
    assert export(filled(), tmp_path / "some.parquet", Filter(kind="live")) == 2
    assert export(filled(), tmp_path / "none.parquet", Filter(agent="nobody")) == 0
    assert import_(tmp_path / "none.parquet", EpisodeTable.in_memory()) == 0


def test_more_episodes_than_one_batch(tmp_path: Path) -> None:
    table = EpisodeTable.in_memory()
    for seed in range(1203):
        table.put(example(seed, steps=1))
    assert export(table, tmp_path / "all.parquet") == 1203
    again = EpisodeTable.in_memory()
    assert import_(tmp_path / "all.parquet", again) == 1203
    assert {row.id for row in again.query(limit=2000)} == {r.id for r in table.query(limit=2000)}


def test_what_the_table_knows_already_stays_and_gains_where_it_belongs(tmp_path: Path) -> None:
    export(filled(), tmp_path / "all.parquet")
    table = EpisodeTable.in_memory()
    table.put(example(1, outcome="dropped"))
    table.label(example(1).id, "odd", "ann", "at the rim", created=3.5)
    assert import_(tmp_path / "all.parquet", table) == 4
    assert table.row(example(1).id).outcome.kind == "dropped"
    assert table.memberships(example(1).id) == [EVALUATION, LIVE]
    assert len(table.labels(example(1).id, all_of_them=True)) == 2
    assert import_(tmp_path / "all.parquet", table) == 0


def test_shipped_results_come_in_once_a_content(tmp_path: Path) -> None:
    shipped = tmp_path / "results"
    shipped.mkdir()
    export(filled(), shipped / "first.parquet")
    table = EpisodeTable(tmp_path / "table")
    assert import_shipped(table, shipped) == 5
    table.drop(example(1).id)
    shutil.copy(shipped / "first.parquet", shipped / "renamed.parquet")
    assert import_shipped(table, shipped) == 0 and table.count() == 4
    more = EpisodeTable.in_memory()
    more.put(example(6))
    export(more, shipped / "first.parquet")
    (shipped / "renamed.parquet").unlink()
    assert import_shipped(table, shipped) == 1
    assert import_shipped(table, tmp_path / "nowhere") == 0


def other(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), path)


def newer(path: Path) -> None:
    schema = pyarrow.schema([("id", pyarrow.string())], metadata={"vlm4vla.episodes": "2"})
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x"]}, schema=schema), path)


def cut(path: Path) -> None:
    export(filled(), path)
    path.write_bytes(path.read_bytes()[:-100])


def altered(path: Path) -> None:
    export(filled(), path)
    found = pyarrow.parquet.read_table(path)
    place = found.schema.names.index("seed")
    seeds = pyarrow.array([seed + 1 for seed in found["seed"].to_pylist()])
    pyarrow.parquet.write_table(found.set_column(place, found.schema.field(place), seeds), path)


def put(name: str, change, *, earlier: bool = False):
    """Changes the third row of a file; that of an earlier version, if wanted."""

    def make(path: Path) -> None:
        export(filled(), path)
        found = pyarrow.parquet.read_table(path)
        if earlier:
            found = found.drop_columns(["checksum"])
        place = found.schema.names.index(name)
        values = found[name].to_pylist()
        values[2] = change(values[2])
        column = pyarrow.array(values, found.schema.field(place).type)
        pyarrow.parquet.write_table(
            found.set_column(place, found.schema.field(place), column), path
        )

    return make


def turned(outcome: str) -> str:
    return "timeout" if outcome == "success" else "success"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (put("outcome", turned), r"row 3: episode \w{16} is not what was exported"),
        (put("actions", lambda all: [0.5, *all[1:]]), "row 3: .* is not what was exported"),
        (put("sentence", lambda told: told + "!"), "row 3: .* is not what was exported"),
        (put("labels", lambda told: "[]" if told != "[]" else "[ ]"), "not what was exported"),
        (put("checksum", lambda told: "0" * 16), "not what was exported"),
        (put("outcome", turned, earlier=True), "row 3, column 'success': it is"),
        (put("success", lambda told: not told, earlier=True), "row 3, column 'success': it is"),
        (put("goal_task", lambda told: "dance", earlier=True), "column 'goal_task': it is 'dance'"),
        (
            put("created", lambda told: float("nan")),
            r"some\.parquet cannot be read .* row 3, column 'created': not a finite",
        ),
        (other, "no exported table"),
        (newer, "newer version"),
        (cut, "cannot be read"),
        (altered, "is not what its id says"),
        (lambda path: path.write_text("no parquet"), "cannot be read"),
        (lambda path: None, "There is no file"),
    ],
)
def test_a_file_that_cannot_be_brought_in_is_told(tmp_path: Path, make, told: str) -> None:
    make(tmp_path / "some.parquet")
    table = EpisodeTable.in_memory()
    with pytest.raises(UserError, match=told):
        import_(tmp_path / "some.parquet", table)
    assert table.count() == 0


def test_a_file_of_an_earlier_version_comes_in(tmp_path: Path) -> None:
    put("sentence", lambda told: told, earlier=True)(tmp_path / "some.parquet")
    assert import_(tmp_path / "some.parquet", EpisodeTable.in_memory()) == 5


def test_the_documented_schema_is_the_declared_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "episodes.md").read_text("utf-8")
    assert "\n".join(describe()) in text
