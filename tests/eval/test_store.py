import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.eval.examples import RECORD
from vlm4vla.errors import UserError
from vlm4vla.eval.store import Store


def put(store: Store, folder: Path, seed: int, size: int = 1000) -> str:
    """Keeps an episode whose age is given by its seed."""
    record = replace(RECORD, seed=seed)
    store.put(record, b"v" * size)
    os.utime(folder / record.run_id / "episode.json", (seed, seed))
    return record.run_id


def content(store: Store, run_id: str) -> bytes | None:
    video = store.video(run_id)
    return video.read_bytes() if video else None


def test_an_episode_survives_a_restart(tmp_path: Path) -> None:
    Store(tmp_path).put(RECORD, b"video")
    again = Store(tmp_path)
    assert again.ids() == [RECORD.run_id]
    assert again.get(RECORD.run_id) == RECORD
    assert content(again, RECORD.run_id) == b"video"


def test_the_id_depends_on_what_was_asked_and_on_nothing_else() -> None:
    assert replace(RECORD, outcome="dropped", steps=60, sentence="").run_id == RECORD.run_id
    changed = [
        replace(RECORD, driver="0123"),
        replace(RECORD, task="reach"),
        replace(RECORD, seed=8),
        replace(RECORD, instruction="lift the red  cube"),
        replace(RECORD, condition="blank picture"),
    ]
    assert len({record.run_id for record in [RECORD, *changed]}) == 6


def test_the_same_episode_again_replaces_itself(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(RECORD, b"old")
    store.put(replace(RECORD, steps=15), b"new")
    assert store.ids() == [RECORD.run_id]
    assert store.get(RECORD.run_id).steps == 15
    assert content(store, RECORD.run_id) == b"new"


def test_the_oldest_unpinned_episodes_make_room(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=6000)
    first, second, third = (put(store, tmp_path, seed) for seed in (1, 2, 3))
    store.pin(first)
    last = put(store, tmp_path, 4, size=3500)
    assert store.ids() == [first, last]
    assert store.pinned() == [first]
    with pytest.raises(UserError, match="no such stored episode"):
        store.get(second)
    assert not (tmp_path / third).exists()


def test_the_newest_episode_stays_even_when_it_alone_is_too_large(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=10)
    run_id = put(store, tmp_path, 1)
    assert store.ids() == [run_id]


@pytest.mark.parametrize(
    "run_id",
    ["", "..", "../../etc/passwd", "/etc", "0" * 15, "0" * 17, "0123456789ABCDEF", "0" * 16 + "\n"],
)
def test_ids_name_nothing_outside_the_store(tmp_path: Path, run_id: str) -> None:
    store = Store(tmp_path / "episodes")
    with pytest.raises(UserError, match="no such stored episode"):
        store.get(run_id)
    with pytest.raises(UserError, match="no such stored episode"):
        store.video(run_id)
    with pytest.raises(UserError, match="no such stored episode"):
        store.pin(run_id)


def test_a_half_written_episode_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / RECORD.run_id
    folder.mkdir()
    (folder / "view.mp4").write_bytes(b"half")
    assert Store(tmp_path).ids() == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"driver": "expert"}', "null"])
def test_a_damaged_episode_is_named(tmp_path: Path, content: str) -> None:
    store = Store(tmp_path)
    store.put(RECORD, b"video")
    (tmp_path / RECORD.run_id / "episode.json").write_text(content)
    with pytest.raises(UserError, match=f"{RECORD.run_id} is damaged"):
        store.get(RECORD.run_id)


def test_the_rate_counts_one_driver_on_one_task_under_normal_conditions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        store.put(replace(RECORD, seed=seed), b"")
    store.put(replace(RECORD, seed=9, outcome="dropped"), b"")
    store.put(replace(RECORD, seed=9, condition="blank picture", outcome="dropped"), b"")
    # A scene made for lifting allows touching, too.
    store.put(replace(RECORD, goal="reach: red cube", outcome="dropped"), b"")
    store.put(replace(RECORD, driver="0123", outcome="dropped"), b"")
    damaged = replace(RECORD, seed=10)
    store.put(damaged, b"")
    (tmp_path / damaged.run_id / "episode.json").write_text("{")
    rate = store.rate("expert", "pick", evaluated=False)
    assert (rate.successes, rate.n) == (3, 4)
    assert rate.low < 0.75 < rate.high
    assert store.rate("expert", "pick", evaluated=True).n == 0


def test_what_an_evaluation_found_stays_its_own_when_somebody_runs_it_again(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.put(RECORD, None, evaluated=True)
    assert store.video(RECORD.run_id) is None
    store.put(RECORD, b"video")
    assert store.evaluated() == [RECORD.run_id]
    store.put(RECORD, None, evaluated=True)
    assert content(store, RECORD.run_id) == b"video"


def test_a_dropped_episode_is_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(RECORD, b"video")
    store.drop(RECORD.run_id)
    assert store.ids() == []
    with pytest.raises(UserError, match="no such stored episode"):
        store.drop(RECORD.run_id)
