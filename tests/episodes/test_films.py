import os
from pathlib import Path

import pytest

from tests.episodes.examples import LIVE, example
from tests.episodes.faults import read_only, somewhere_for_all
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError


def keys(films: Films) -> list[str]:
    return sorted(file.stem for file in films.folder.glob("*.mp4"))


def key(number: int) -> str:
    return f"{number:016x}"


@pytest.fixture
def films(tmp_path: Path) -> Films:
    return Films(EpisodeTable(tmp_path / "table"), tmp_path / "films", limit_bytes=100)


def test_a_film_is_a_file_that_is_replaced_whole(films: Films) -> None:
    assert films.path(key(1)) is None
    films.put(key(1), b"first")
    films.put(key(1), b"second one")
    path = films.path(key(1))
    assert path is not None and path.read_bytes() == b"second one"
    assert films.total_bytes == 10 and keys(films) == [key(1)]


def test_the_oldest_that_are_not_pinned_make_room(films: Films) -> None:
    for number in range(1, 5):
        films.put(key(number), b"f" * 25, created=number)
    films.pin(key(1))
    films.put(key(5), b"f" * 45, created=5)
    assert keys(films) == [key(1), key(4), key(5)]
    assert films.total_bytes == 95
    assert films.pinned() == [key(1)]


def test_the_newest_stays_even_when_it_alone_is_too_large(films: Films) -> None:
    films.put(key(1), b"f" * 50, created=1)
    films.put(key(2), b"f" * 200, created=2)
    assert keys(films) == [key(2)] and films.total_bytes == 200
    films.pin(key(2))
    films.put(key(3), b"f" * 10, created=3)
    assert keys(films) == [key(2), key(3)]


def test_a_pinned_film_stays_pinned_when_it_is_made_again(films: Films) -> None:
    films.put(key(1), b"f", created=1)
    films.pin(key(1))
    films.put(key(1), b"ff", created=2)
    assert films.pinned() == [key(1)]


def test_a_film_that_goes_takes_no_row_with_it(tmp_path: Path) -> None:
    table = EpisodeTable(tmp_path / "table")
    films = Films(table, tmp_path / "films", limit_bytes=30)
    for seed in range(3):
        films.put(table.put(example(seed), [LIVE]), b"f" * 20)
    assert len(keys(films)) == 1 and table.count() == 3
    films.drop(example(2).id)
    assert keys(films) == [] and films.total_bytes == 0 and table.count() == 3
    films.drop(example(2).id)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "/etc", "0" * 15, "0" * 16 + "\n"])
def test_ids_name_nothing_outside_the_folder(films: Films, name: str) -> None:
    assert films.path(name) is None
    films.drop(name)
    with pytest.raises(UserError, match="no such stored episode"):
        films.put(name, b"film")
    with pytest.raises(UserError, match="no film"):
        films.pin(name)


def test_a_film_from_elsewhere_is_linked_with_its_age(films: Films, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = tmp_path / "old" / "view.mp4"
    old.write_bytes(b"film")
    os.utime(old, (50, 50))
    films.link(key(1), old, pinned=True)
    path = films.path(key(1))
    assert path is not None and path.samefile(old)
    assert films.pinned() == [key(1)] and films.total_bytes == 4
    films.drop(key(1))
    assert old.read_bytes() == b"film"


def test_the_account_is_brought_in_line_with_the_folder(films: Films) -> None:
    for number in range(3):
        films.put(key(number), b"f" * 10)
    films.pin(key(2))
    films.path(key(0)).unlink()
    (films.folder / f"{key(7)}.mp4").write_bytes(b"f" * 5)
    (films.folder / "notes.mp4").write_bytes(b"f" * 500)
    films.reconcile()
    assert films.total_bytes == 25 and films.pinned() == [key(2)]
    films.reconcile({key(7)})
    assert set(films.pinned()) == {key(2), key(7)}


def test_a_put_asks_no_file_but_its_own(films: Films, monkeypatch) -> None:
    for number in range(20):
        films.put(key(number), b"f")
    asked: list[Path] = []
    for name in ("stat", "iterdir", "glob"):
        real = getattr(Path, name)

        def noted(self, *given, real=real, name=name, **named):
            asked.append(self if name == "stat" else self / "*.mp4")
            return real(self, *given, **named)

        monkeypatch.setattr(Path, name, noted)
    films.put(key(99), b"f")
    assert asked, "something was asked, so the notes are taken"
    assert not [path for path in asked if path.suffix == ".mp4" and path.stem != key(99)]


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with somewhere_for_all() as folder:
        films = Films(EpisodeTable(folder / "table"), folder / "films")
        films.put(key(1), b"film")
        with read_only(folder), pytest.raises(UserError, match="Could not write"):
            films.put(key(2), b"film")
        films._table.close()
        assert keys(films) == [key(1)] and films.total_bytes == 4
