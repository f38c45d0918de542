import hashlib
import sqlite3
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, content, example
from tests.episodes.faults import read_only, somewhere_for_all
from vlm4vla.episodes import database
from vlm4vla.episodes.database import NewerVersionError
from vlm4vla.episodes.rates import facets, rates
from vlm4vla.episodes.schema import APPLICATION_ID, MIGRATIONS, VERSION
from vlm4vla.episodes.table import FILE, EpisodeTable
from vlm4vla.errors import UserError


def filled(folder: Path, count: int = 3) -> EpisodeTable:
    table = EpisodeTable(folder)
    for seed in range(count):
        table.put(example(seed), [EVALUATION])
    return table


def test_reading_an_absent_table_makes_nothing(tmp_path: Path) -> None:
    table = EpisodeTable(tmp_path / "none")
    assert table.query() == [] and table.count() == 0 and rates(table) == []
    assert facets(table)["agent"] == {}
    assert table.known([example().id]) == set()
    with pytest.raises(UserError, match="no such stored episode"):
        table.get(example().id)
    table.database.read_ahead()
    assert list(tmp_path.iterdir()) == []


def test_reading_changes_no_byte(tmp_path: Path) -> None:
    filled(tmp_path).close()
    before = hashlib.sha256((tmp_path / FILE).read_bytes()).digest()
    age = (tmp_path / FILE).stat().st_mtime_ns
    table = EpisodeTable(tmp_path)
    assert table.count() == 3 and len(table.query()) == 3 and len(rates(table)) == 1
    assert content(table.get(example(1).id)) == content(example(1))
    table.close()
    assert hashlib.sha256((tmp_path / FILE).read_bytes()).digest() == before
    assert (tmp_path / FILE).stat().st_mtime_ns == age


def test_the_file_says_whose_it_is(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def first_version(folder: Path) -> None:
    """A table as version 1 wrote it, with rows."""
    filled(folder).close()
    with sqlite3.connect(folder / FILE) as db:
        for name in ("counted_otherwise", "joined"):
            db.execute(f"DROP TRIGGER {name}")
        for name in ("findings", "automatic_labels", "labels", "label_changes"):
            db.execute(f"DROP TABLE {name}")
        db.execute("PRAGMA user_version = 1")
    db.close()


def test_a_table_of_version_1_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    first_version(tmp_path)
    table = EpisodeTable(tmp_path)
    with pytest.raises(UserError, match=rf"older version \(1, here {VERSION}\).*rebuild"):
        table.count()
    table.put(example(9))
    table.label(example(1).id, "odd", "ann")
    assert table.count() == 4 and table.labels(example(1).id)[0].label == "odd"
    assert content(table.get(example(1).id)) == content(example(1))
    assert table.memberships(example(1).id) == [EVALUATION]


def test_a_table_is_brought_up_to_date_without_a_row_of_its_own(tmp_path: Path) -> None:
    absent = EpisodeTable(tmp_path / "absent")
    absent.database.upgrade()
    assert not absent.database.exists
    first_version(tmp_path)
    table = EpisodeTable(tmp_path)
    table.database.upgrade()
    assert table.count() == 3 and content(table.get(example(1).id)) == content(example(1))
    before = (tmp_path / FILE).stat().st_mtime_ns
    table.database.upgrade()
    assert (tmp_path / FILE).stat().st_mtime_ns == before


def test_every_step_leads_from_one_version_to_the_next() -> None:
    db = sqlite3.connect(":memory:")
    tables = []
    for step in MIGRATIONS:
        for statement in step:
            db.execute(statement)
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables.append({name for (name,) in found})
    assert "labels" in tables[1] - tables[0] and "episodes" in tables[0]
    assert {"automatic_labels", "findings"} <= tables[2] - tables[1]


def test_a_migration_that_fails_leaves_the_table_as_it_was(tmp_path: Path, monkeypatch) -> None:
    filled(tmp_path).close()
    broken = (*MIGRATIONS, ("CREATE TABLE more (x)", "CREATE TABLE labels (again)"))
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", broken)
        patch.setattr(database, "VERSION", len(broken))
        with pytest.raises(UserError):
            EpisodeTable(tmp_path).put(example(9))
    table = EpisodeTable(tmp_path)
    assert table.count() == 3
    with table.database.reading() as db:
        found = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'more'")
        assert found.fetchone()[0] == 0


def test_a_newer_table_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = (tmp_path / FILE).read_bytes()
    for ask in (lambda: EpisodeTable(tmp_path).count(), lambda: filled(tmp_path)):
        with pytest.raises(NewerVersionError, match=r"newer version of VLM4VLA.*Update"):
            ask()
    assert (tmp_path / FILE).read_bytes() == before


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE bookmarks (address)")
    db.close()
    before = (tmp_path / FILE).read_bytes()
    for ask in (lambda: EpisodeTable(tmp_path).count(), lambda: filled(tmp_path)):
        with pytest.raises(UserError, match=r"another program.*Move it away"):
            ask()
    assert (tmp_path / FILE).read_bytes() == before


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    text = b"no database at all, but long enough to be one" * 50
    (tmp_path / FILE).write_bytes(text)
    for ask in (lambda: EpisodeTable(tmp_path).count(), lambda: filled(tmp_path)):
        with pytest.raises(UserError, match=r"is damaged, or no table.*vlm4vla episodes rebuild"):
            ask()
    assert (tmp_path / FILE).read_bytes() == text


@pytest.mark.parametrize("wal", [False, True])
def test_a_file_without_tables_is_an_empty_table(tmp_path: Path, wal: bool) -> None:
    (tmp_path / FILE).touch()
    if wal:
        # As another process leaves it for a moment before it makes the tables.
        with sqlite3.connect(tmp_path / FILE) as db:
            db.execute("PRAGMA journal_mode = WAL")
        db.close()
        assert (tmp_path / FILE).stat().st_size > 0
    assert EpisodeTable(tmp_path).count() == 0
    assert filled(tmp_path).count() == 3


def test_a_table_that_is_made_between_two_questions_is_nobody_else_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA journal_mode = WAL")
    asked: list[str] = []

    class Asked(database._Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            asked.append(sql)
            if len(asked) == 3:
                # After the first of two questions whose table this is.
                filled(tmp_path).close()
            return super().execute(sql, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "_Connection", Asked)
    assert EpisodeTable(tmp_path).count() == 3


@pytest.mark.parametrize("refused", [3, 1_000])
def test_a_reader_that_a_writer_kept_out_sees_what_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """SQLite cannot open a file at the moment when a writer makes or removes those beside it."""
    filled(tmp_path).close()
    connect, left = database._connect, [refused]

    class Refusing(database._Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:  # type: ignore[override]
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorname = "SQLITE_CANTOPEN"
            raise error

    def refusing(path: Path, how: str) -> database._Connection:
        if how == "mode=ro" and left[0]:
            left[0] -= 1
            return sqlite3.connect(":memory:", factory=Refusing)
        return connect(path, how)

    monkeypatch.setattr(database, "_connect", refusing)
    monkeypatch.setattr(database, "_PAUSE_SECONDS", 0)
    table = EpisodeTable(tmp_path)
    assert table.count() == 3
    left[0] = 0
    filled(tmp_path, 5).close()
    assert table.count() == 5


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    filled(tmp_path, 60).close()
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 3 // 4096 * 4096])
    with pytest.raises(UserError, match=r"is damaged.*rebuild"):
        table = EpisodeTable(tmp_path)
        list(table.entries())
    with pytest.raises(UserError, match=r"is damaged.*rebuild"):
        for seed in range(100, 160):
            EpisodeTable(tmp_path).put(example(seed))


def test_a_full_disk_keeps_what_was_written_before(tmp_path: Path) -> None:
    table = filled(tmp_path, 5)
    with table.database.writing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(UserError, match=r"The disk is full.*Free some disk space.*is intact"):
        for seed in range(10, 60):
            table.put(example(seed))
    kept = {row.spec.seed for row in table.query()}
    assert kept >= set(range(5)) and len(kept) < 20
    for row in table.query():
        assert content(table.get(row.id)) == content(example(row.spec.seed))
    with table.database.writing() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    table.put(example(90))
    assert table.count() == len(kept) + 1


def test_a_read_only_folder_can_be_read_and_says_so_when_written_to() -> None:
    with somewhere_for_all() as folder:
        filled(folder / "table").close()
        names = sorted(one.name for one in (folder / "table").iterdir())
        assert names == [FILE], "the last one to leave puts everything into the one file"
        with read_only(folder / "table"):
            table = EpisodeTable(folder / "table")
            assert table.count() == 3 and len(rates(table)) == 1
            assert content(table.get(example(1).id)) == content(example(1))
            with pytest.raises(UserError, match=r"cannot be written.*VLM4VLA_LOCAL"):
                table.put(example(9))
            assert table.count() == 3
            with pytest.raises(UserError, match="cannot be written"):
                EpisodeTable(folder / "table" / "below").put(example(9))
            table.close()


def test_a_read_only_file_can_be_read_and_says_so_when_written_to() -> None:
    with somewhere_for_all() as folder:
        (folder / "table").mkdir()
        filled(folder / "table").close()
        with read_only(folder / "table"):
            table = EpisodeTable(folder / "table")
            assert len(table.query()) == 3
            with pytest.raises(UserError, match="cannot be written"):
                table.drop(example(1).id)
            table.close()


def test_a_folder_that_may_not_be_entered_is_told() -> None:
    with somewhere_for_all() as folder, read_only(folder):
        with pytest.raises(UserError, match="cannot be written"):
            EpisodeTable(folder / "table").put(example())
        assert EpisodeTable(folder / "table").count() == 0


def test_what_lies_beside_a_read_only_table_is_not_passed_over() -> None:
    with somewhere_for_all() as folder:
        (folder / "table").mkdir()
        table = filled(folder / "table")
        assert (folder / "table" / f"{FILE}-wal").stat().st_size > 0
        (folder / "copy").mkdir()
        for end in ("", "-wal"):
            source = folder / "table" / (FILE + end)
            (folder / "copy" / (FILE + end)).write_bytes(source.read_bytes())
        table.close()
        with (
            read_only(folder / "copy"),
            pytest.raises(UserError, match=r"cannot be read.*permissions"),
        ):
            EpisodeTable(folder / "copy").count()


def test_a_writer_that_does_not_end_is_told(tmp_path: Path, monkeypatch) -> None:
    table = filled(tmp_path)
    table.close()
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 0.1)
    busy = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="Another process has been writing"):
        table.put(example(9))
    assert table.count() == 3, "readers do not wait for it"
    busy.execute("ROLLBACK")
    busy.close()
    table.put(example(9))
    assert table.count() == 4


def test_everything_lies_in_one_file_once_it_is_gathered(tmp_path: Path) -> None:
    table = filled(tmp_path / "one")
    assert table.count() == 3
    table.database.gather()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / FILE).write_bytes((tmp_path / "one" / FILE).read_bytes())
    assert EpisodeTable(tmp_path / "two").count() == 3


def test_closing_leaves_one_file_whoever_read_beside(tmp_path: Path) -> None:
    table = filled(tmp_path)
    others = [EpisodeTable(tmp_path) for _ in range(3)]
    assert [other.count() for other in (table, *others)] == [3] * 4
    for one in (*others, table):
        one.close()
    assert [one.name for one in tmp_path.iterdir()] == [FILE]
