from pathlib import Path

from tests.episodes.examples import EVALUATION, LIVE, example
from tests.episodes.test_legacy import RECORD_ID, Old
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.parquet import export
from vlm4vla.episodes.start import prepare
from vlm4vla.episodes.table import EpisodeTable


def ready(folder: Path) -> tuple[EpisodeTable, Films]:
    table = EpisodeTable(folder / "local", log=folder / "home" / "episodes.jsonl")
    films = Films(table, folder / "home" / "films")
    prepare(table, films, legacy=folder / "home", shipped=folder / "shipped")
    return table, films


def test_where_nothing_is_nothing_is_made(tmp_path: Path) -> None:
    table, _ = ready(tmp_path)
    assert table.count() == 0 and list(tmp_path.iterdir()) == []


def test_log_old_folders_and_shipped_results_make_the_first_table(tmp_path: Path) -> None:
    old = Old(tmp_path / "home")
    old.record(RECORD_ID, b"film")
    (tmp_path / "shipped").mkdir()
    shipped = EpisodeTable.in_memory()
    shipped.put(example(1), [EVALUATION])
    export(shipped, tmp_path / "shipped" / "results.parquet")
    earlier = EpisodeTable(tmp_path / "lost", log=tmp_path / "home" / "episodes.jsonl")
    earlier.put(example(2, source="live"), [LIVE])
    table, films = ready(tmp_path)
    assert {row.id for row in table.query()} == {
        example(1).id,
        example(2).id,
        table.row(RECORD_ID).id,
    }
    assert films.path(table.row(RECORD_ID).id) is not None
    table.drop(example(1).id)
    again, _ = ready(tmp_path)
    assert again.count() == 2, "each comes in once"


def test_a_lost_table_is_made_again_without_anything_twice(tmp_path: Path) -> None:
    old = Old(tmp_path / "home")
    old.record(RECORD_ID, b"film", ("pinned",))
    table, _ = ready(tmp_path)
    table.put(example(2, source="live"), [LIVE])
    table.close()
    log = (tmp_path / "home" / "episodes.jsonl").read_bytes()
    for file in (tmp_path / "local").iterdir():
        file.unlink()
    again, films = ready(tmp_path)
    assert again.count() == 2
    assert films.total_bytes == 4 and films.pinned() == [again.row(RECORD_ID).id]
    assert (tmp_path / "home" / "episodes.jsonl").read_bytes() == log


def test_a_table_that_somebody_made_before_gets_what_the_log_holds(tmp_path: Path) -> None:
    log = tmp_path / "home" / "episodes.jsonl"
    lost = EpisodeTable(tmp_path / "lost", log=log)
    lost.put(example(1, source="live", outcome="dropped"), [LIVE], created=10.0)
    lost.put(example(2, source="live"), [LIVE])
    lost.label(example(2).id, "odd", "ann")
    before = log.read_bytes()
    # An evaluation comes before the app, and finds other things than the log knows.
    EpisodeTable(tmp_path / "local", log=log).put(example(1), [EVALUATION])
    table, _ = ready(tmp_path)
    assert table.row(example(1).id).outcome.success
    assert table.memberships(example(1).id) == [EVALUATION, LIVE]
    assert [one.label for one in table.labels(example(2).id)] == ["odd"]
    assert log.read_bytes() == before
    table.put(example(3, source="live"), [LIVE])
    table.drop(example(2).id)
    again, _ = ready(tmp_path)
    assert {row.spec.seed for row in again.query()} == {1, 3}
