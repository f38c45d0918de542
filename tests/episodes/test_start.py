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
