import errno
import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, LIVE, content, example
from vlm4vla.episodes.database import NewerVersionError
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.log import Log
from vlm4vla.episodes.rebuild import rebuild
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.episodes.schema import VERSION
from vlm4vla.episodes.table import FILE, EpisodeTable
from vlm4vla.errors import UserError


def at(folder: Path) -> EpisodeTable:
    return EpisodeTable(folder / "table", log=folder / "log.jsonl")


def everything(table: EpisodeTable) -> dict[str, object]:
    return {
        one.episode.id: (content(one.episode), one[1:], table.row(one.episode.id).current)
        for one in table.entries()
    }


def lose(folder: Path) -> None:
    for path in (folder / "table").iterdir():
        path.unlink()


def test_live_episodes_and_labels_come_back_from_the_log(tmp_path: Path) -> None:
    table = at(tmp_path)
    for seed in range(4):
        table.put(example(seed, source="live", reading="known"), [LIVE], legacy_id=f"{seed:016x}")
    table.label(example(1).id, "odd", "ann", "at the rim")
    table.label(example(1).id, "fine", "ann")
    table.join(example(2).id, EVALUATION)
    table.drop(example(3).id)
    before = everything(table)
    table.close()
    lose(tmp_path)
    again = at(tmp_path)
    done = rebuild(again)
    assert (done.saved, done.logged, done.lost, done.aside) == (0, 8, 0, None)
    assert everything(again) == before
    assert len(before) == 3
    assert [one.label for one in again.labels(example(1).id, all_of_them=True)] == ["odd", "fine"]


def test_a_label_beside_an_imported_one_comes_back_from_the_log(tmp_path: Path) -> None:
    table = at(tmp_path)
    table.put_all([Entry(example(1), (EVALUATION,), "", 1.0, (Label("odd", "ann", "", 2.0),))])
    table.label(example(1).id, "dropped", "bob", "at the rim")
    table.close()
    lose(tmp_path)
    again = at(tmp_path)
    assert rebuild(again).lost == 0
    assert ("bob", "at the rim") in [(one.who, one.note) for one in again.labels(example(1).id)]


def test_a_label_of_an_episode_that_is_nowhere_is_counted_as_lost(tmp_path: Path) -> None:
    table = at(tmp_path)
    table.put(example(1, source="live"), [LIVE])
    Log(tmp_path / "log.jsonl").append("label", {"id": "0" * 16, "label": "odd", "who": "ann"})
    done = rebuild(table)
    assert (done.logged, done.lost) == (1, 1)


def test_rebuilding_writes_nothing_into_the_log(tmp_path: Path) -> None:
    table = at(tmp_path)
    table.put(example(1, source="live"), [LIVE])
    table.label(example(1).id, "odd", "ann")
    before = (tmp_path / "log.jsonl").read_bytes()
    rebuild(table)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    assert len(table.labels(example(1).id, all_of_them=True)) == 1


def test_a_sound_table_keeps_all_its_rows(tmp_path: Path) -> None:
    table = at(tmp_path)
    for seed in range(5):
        table.put(example(seed), [EVALUATION], legacy_id=f"{seed:016x}")
    table.put(example(0, versions={"torch": "3"}), created=2e9)
    before = everything(table)
    done = rebuild(table)
    assert (done.saved, done.lost) == (6, 0)
    assert everything(table) == before
    assert done.aside is not None and done.aside.name == "episodes-old-1.sqlite"
    with sqlite3.connect(done.aside) as old:
        assert old.execute("SELECT count(*) FROM episodes").fetchone() == (6,)
    assert rebuild(table).aside == done.aside.with_name("episodes-old-2.sqlite")


def test_a_disk_that_links_nothing_has_its_table_again(tmp_path: Path, monkeypatch) -> None:
    table = at(tmp_path)
    table.put(example(1), [EVALUATION])
    before = everything(table)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("vlm4vla.episodes.rebuild.os.link", refuse)
    done = rebuild(table)
    assert done.aside is not None and done.aside.exists()
    assert everything(table) == before


def test_an_episode_that_was_run_again_after_it_was_dropped_stays(tmp_path: Path) -> None:
    table = at(tmp_path)
    table.put(example(1))
    table.drop(example(1).id)
    table.put(example(1), created=4e9)
    rebuild(table)
    assert table.count() == 1


def test_every_row_that_can_be_read_is_taken_over_from_a_damaged_table(tmp_path: Path) -> None:
    table = at(tmp_path)
    for seed in range(80):
        table.put(example(seed, steps=40), [EVALUATION])
    table.close()
    file = tmp_path / "table" / FILE
    whole = bytearray(file.read_bytes())
    # Nonsense in the middle: some of the rows and arrays are gone for good.
    middle = len(whole) // 2 // 4096 * 4096
    whole[middle : middle + 5 * 4096] = b"\x5a" * (5 * 4096)
    file.write_bytes(whole)
    with pytest.raises(UserError, match="damaged"):
        list(at(tmp_path).entries())
    again = at(tmp_path)
    done = rebuild(again)
    assert 40 <= done.saved < 80
    assert again.count(Filter(kind="evaluation")) == done.saved
    for entry in again.entries():
        assert content(entry.episode) == content(example(entry.episode.spec.seed, steps=40))
    assert done.aside is not None and done.aside.read_bytes() == whole
    again.put(example(500))
    assert again.count() == done.saved + 1


@pytest.mark.parametrize("text", [b"nothing of a database" * 500, b"SQLite format 3\0" * 300])
def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, text: bytes) -> None:
    table = at(tmp_path)
    table.put(example(1, source="live"), [LIVE])
    table.close()
    lose(tmp_path)
    (tmp_path / "table" / FILE).write_bytes(text)
    done = rebuild(table)
    assert (done.saved, done.logged) == (0, 1)
    assert done.aside is not None and done.aside.read_bytes() == text
    assert table.count() == 1


def test_a_newer_table_is_not_touched(tmp_path: Path) -> None:
    table = at(tmp_path)
    table.put(example(1))
    table.close()
    with sqlite3.connect(tmp_path / "table" / FILE) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(NewerVersionError):
        rebuild(table)
    assert [one.name for one in (tmp_path / "table").iterdir()] == [FILE]


def test_a_log_with_a_damaged_line_gives_the_others(tmp_path: Path) -> None:
    table = at(tmp_path)
    for seed in range(3):
        table.put(example(seed, source="live"), [LIVE])
    table.close()
    lose(tmp_path)
    log = tmp_path / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"arrays": "', b'"arrays": "AAAA')
    log.write_bytes(b"".join(lines) + b'{"format": 1, "what": "lab')
    done = rebuild(table)
    assert (done.logged, done.lost) == (2, 1)
    assert {row.spec.seed for row in table.query()} == {0, 2}


def test_films_and_pins_are_accounted_for_again(tmp_path: Path) -> None:
    table = at(tmp_path)
    films = Films(table, tmp_path / "films")
    for seed in range(3):
        films.put(table.put(example(seed, source="live"), [LIVE]), b"f" * (10 + seed))
    films.pin(example(1).id)
    table.close()
    lose(tmp_path)
    films.path(example(2).id).unlink()
    rebuild(table, films)
    assert films.total_bytes == 21
    assert films.pinned() == [example(1).id]
    rebuild(table, films)
    assert films.total_bytes == 21 and films.pinned() == [example(1).id]


def test_what_stands_in_no_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "table").touch()
    with pytest.raises(UserError, match="could not be made again"):
        rebuild(at(tmp_path))


def test_a_table_that_another_process_makes_meanwhile_is_told(tmp_path: Path, monkeypatch) -> None:
    table = at(tmp_path)
    table.put(example(1))
    aside = tmp_path / "table" / "episodes-old-1.sqlite"

    def moved(path: Path) -> Path:
        path.rename(aside)
        at(tmp_path).put(example(2))
        return aside

    monkeypatch.setattr("vlm4vla.episodes.rebuild._move_aside", moved)
    with pytest.raises(UserError, match=r"Another process made .*episodes-old-1\.sqlite"):
        rebuild(table)
    assert aside.exists()
    assert [row.spec.seed for row in at(tmp_path).query()] == [2]


@pytest.mark.parametrize(
    "odd",
    [
        {"legacy_id": None},
        {"legacy_id": []},
        {"created": "yesterday"},
        {"created": 2**80},
        {"memberships": [["live", {}]]},
        {"episode": 3},
    ],
)
def test_a_line_with_other_values_than_ours_is_counted_as_lost(
    tmp_path: Path, odd: dict[str, object]
) -> None:
    table = at(tmp_path)
    table.put(example(1, source="live"), [LIVE])
    table.put(example(2, source="live"), [LIVE])
    log = tmp_path / "log.jsonl"
    first, second = log.read_text().splitlines()
    log.write_text(f"{json.dumps({**json.loads(first), **odd})}\n{'[' * 100_000}\n{second}\n")
    table.close()
    lose(tmp_path)
    table = at(tmp_path)
    done = rebuild(table)
    assert (done.logged, done.lost) == (1, 1)
    assert set(everything(table)) == {example(2).id}
