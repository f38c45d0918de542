import errno
import json
import os
from dataclasses import replace

import fake_environment
import numpy as np
import pyarrow.parquet as pq
import pytest

from vlm4vla.data import record
from vlm4vla.data.cache import asked_of, build_cache, open_cache
from vlm4vla.data.lerobot import finish, parts
from vlm4vla.errors import UserError


def test_what_was_asked_for_knows_no_rounding_and_every_change(recordings):
    episodes = [recording.info for recording in recordings]
    asked = asked_of(episodes)
    first = replace(episodes[0], start=(0.1, 0.2, 0.3))
    moved = replace(first, start=(0.1, 0.2, float(np.nextafter(0.3, 1))))
    assert asked_of([first]) == asked_of([moved])
    others = [
        replace(first, start=(0.1, 0.2, 0.301)),
        replace(first, instruction="another"),
        replace(first, seed=first.seed + 1),
        replace(first, noise=0.9),
        replace(first, versions={}),
    ]
    assert len({asked_of([one]) for one in [first, *others]}) == 6
    assert asked_of(episodes[::-1]) != asked == asked_of(list(episodes))


@pytest.fixture
def cached(dataset, tmp_path):
    build_cache([dataset], tmp_path / "cache")
    return tmp_path / "cache"


def test_every_frame_holds_what_was_recorded(cached, recordings):
    cache = open_cache(cached)
    assert len(cache) == sum(map(len, recordings))
    assert cache.episodes == tuple(recording.info for recording in recordings)
    frame = 0
    for number, recording in enumerate(recordings):
        things = len(recording.info.things)
        assert tuple(map(str, cache.goals(number))) == recording.info.goals
        assert cache.scene(number).seed == recording.info.seed
        for step in range(len(recording)):
            assert cache.episode[frame] == number
            assert cache.step[frame] == step
            assert np.array_equal(cache.images[frame], recording.images[step])
            assert np.array_equal(cache.labels(frame), recording.chunks[step])
            assert np.array_equal(cache.state[frame], recording.state[step])
            assert np.array_equal(cache.action[frame], recording.action[step])
            assert np.array_equal(cache.positions[frame, :things], recording.positions[step])
            assert not cache.positions[frame, things:].any()
            assert np.array_equal(cache.pixels[frame, :things], recording.pixels[step])
            assert cache.noisy[frame] == recording.noisy[step]
            assert cache.success[frame] == recording.success[step]
            frame += 1


def test_pictures_are_mapped_not_copied(cached):
    cache = open_cache(cached)
    picture = cache.images[3]
    assert picture.base is not None
    assert not picture.flags.writeable
    assert np.shares_memory(picture, cache.images)


def test_no_scene_is_on_both_sides_of_the_split(cached):
    cache = open_cache(cached)
    train, validation = cache.split(0.4)
    assert sorted([*train, *validation]) == list(range(len(cache)))
    assert len(train) and len(validation)
    seeds = np.array([info.seed for info in cache.episodes])[cache.episode]
    assert not set(seeds[train]) & set(seeds[validation])
    assert len(cache.split(0.0).validation) == 0
    # A larger share only adds seeds: nothing changes sides when more is held back.
    assert set(cache.split(0.2).validation) <= set(validation)


def test_both_sides_have_scenes_of_the_tasks_that_are_learned(cached):
    """Ten scenes, of which the two that are laid out for it hold goals of the task "push"."""
    cache = open_cache(cached)
    pushes = [any(goal.task == "push" for goal in cache.goals(e)) for e in range(10)]
    assert sum(pushes) == 2
    for share in (0.001, 0.999):
        for side in cache.split(share, ["push"]):
            assert np.array(pushes)[cache.episode[side]].any()


def test_a_cache_is_built_through_a_link(dataset, tmp_path):
    build_cache([dataset], tmp_path / "store")
    (tmp_path / "store" / "mine").write_text("goes with the old one")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere" / "cache")
    for name in ("link", "new"):
        build_cache([dataset], tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert len(open_cache(tmp_path / name)) > 0
    assert not (tmp_path / "store" / "mine").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "dataset",
        "elsewhere",
        "link",
        "new",
        "store",
    }


def test_a_link_to_something_else_is_refused_before_the_work(dataset, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    done = []
    with pytest.raises(UserError, match="link is there and is no cache"):
        build_cache([dataset], tmp_path / "link", lambda *now: done.append(now))
    assert not done
    assert (tmp_path / "file").read_text() == "mine"


def made(root, recordings):
    for index, recording in enumerate(recordings):
        parts.write_part(root, index, recording)
    finish.finish(root, len(recordings), {})
    return root


def test_several_datasets_follow_one_another(cached, dataset, tmp_path):
    rig = fake_environment.rig()
    others = [record.record(rig, "pick", 1_000_010 + i).recording for i in range(4)]
    build_cache([made(tmp_path / "more", others), dataset], tmp_path / "both")
    one, both = open_cache(cached), open_cache(tmp_path / "both")
    begin = sum(map(len, others))
    assert len(both) == begin + len(one)
    assert np.array_equal(both.images[begin:], one.images)
    assert np.array_equal(both.labels(begin + 5), one.labels(5))
    assert both.episode[begin] == 4


def test_an_episode_that_two_datasets_hold_is_refused(recordings, tmp_path):
    few = made(tmp_path / "few", recordings[:2])
    more = made(tmp_path / "more", [recordings[index] for index in (2, 1, 0)])
    # The second of them is the pick of seed 1,000,001 in both.
    with pytest.raises(UserError) as caught:
        build_cache([few, more], tmp_path / "cache")
    assert caught.value.problem == (
        f"Episode 1 of {more} (pick of seed 1000001) is episode 1 of {few}: it would count twice."
    )
    assert "--first-seed" in caught.value.fix
    assert not (tmp_path / "cache").exists()


def test_datasets_whose_episodes_have_no_fingerprints_are_not_alike(recordings, tmp_path):
    both = [made(tmp_path / "a", recordings[:2]), made(tmp_path / "b", recordings[2:4])]
    for root in both:
        path = root / "meta/episodes/chunk-000/file-000.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["vlm4vla/fingerprint"]), path)
    build_cache(both, tmp_path / "cache")
    assert len(open_cache(tmp_path / "cache").episodes) == 4


def test_a_stale_cache_is_refused_and_a_cache_alone_is_not(cached, dataset, recordings):
    described = json.loads((dataset / "meta/vlm4vla.json").read_text())
    described["fingerprint"] = "0" * 64
    (dataset / "meta/vlm4vla.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="earlier state"):
        open_cache(cached)
    dataset.rename(dataset.with_name("gone"))
    assert len(open_cache(cached)) == sum(map(len, recordings))


def test_damage_is_named(cached):
    path = cached / "images.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=str(path)):
        open_cache(cached)
    path.unlink()
    with pytest.raises(UserError, match=str(path)):
        open_cache(cached)
    whole = json.loads((cached / "cache.json").read_text())
    for damage in (
        "{",
        "[]",
        json.dumps(whole | {"fingerprints": []}),
        json.dumps(whole | {"datasets": [3]}),
        json.dumps(whole | {"episodes": ["{}"]}),
        json.dumps(whole | {"sha256": 3}),
    ):
        (cached / "cache.json").write_text(damage)
        with pytest.raises(UserError, match=r"cache\.json is damaged"):
            open_cache(cached)
    (cached / "cache.json").unlink()
    with pytest.raises(UserError, match="no training cache"):
        open_cache(cached.parent)


HASHED = (
    "episode",
    "step",
    "state",
    "action",
    "noisy",
    "positions",
    "pixels",
    "chunks",
    "offsets",
    "success",
)


@pytest.mark.parametrize("name", HASHED)
def test_a_changed_number_is_noticed(name, cached):
    path = cached / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is damaged"):
        open_cache(cached)


def unhashed(cached):
    """The cache as earlier versions made it."""
    description = json.loads((cached / "cache.json").read_text())
    assert set(description.pop("sha256")) == set(HASHED)
    (cached / "cache.json").write_text(json.dumps(description))
    return cached


def test_a_cache_without_hashes_is_the_same(cached, dataset):
    now, before = open_cache(cached), open_cache(unhashed(cached))
    described = json.loads((dataset / "meta/vlm4vla.json").read_text())
    assert before.fingerprint == now.fingerprint == described["fingerprint"]
    assert before.asked == now.asked
    assert np.array_equal(before.chunks, now.chunks)


def put(place, value):
    def how(numbers):
        numbers[place] = value(numbers[place].copy())

    return how


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("offsets", put(slice(None), lambda old: old[::-1])),
        ("offsets", put(0, lambda old: old + 1)),
        ("offsets", put(-1, lambda old: old - 1)),
        ("offsets", put(3, lambda old: old + 1)),  # a label more for one frame, one less for a next
        ("episode", put(1, lambda old: old + 1)),  # the next frame is of the episode before
        ("episode", put(0, lambda old: old - 1)),
    ],
)
def test_numbers_that_do_not_follow_one_another_are_noticed_without_hashes(name, how, cached):
    path = unhashed(cached) / f"{name}.npy"
    numbers = np.load(path)
    how(numbers)
    np.save(path, numbers)
    with pytest.raises(UserError, match=f"{path} is damaged"):
        open_cache(cached)


def test_a_failed_build_keeps_the_old_cache_and_leaves_nothing_else(cached, dataset):
    data = next((dataset / "data").rglob("*.parquet"))
    content = bytearray(data.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=str(data)):
        build_cache([dataset], cached)
    assert len(open_cache(cached)) > 0
    assert {path.name for path in cached.parent.iterdir()} == {"cache", "dataset"}


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(there, dataset, tmp_path, monkeypatch):
    if there:
        build_cache([dataset], tmp_path / "cache")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"Could not write .*/cache: No space left on device\."):
        build_cache([dataset], tmp_path / "cache")
    assert {path.name for path in tmp_path.iterdir()} == {"dataset", *(["cache"] if there else [])}
    if there:
        assert len(open_cache(tmp_path / "cache")) > 0


def test_another_folder_is_not_overwritten(dataset, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="no cache"):
        build_cache([dataset], tmp_path / "mine")


def test_labels_of_other_scenes_are_refused(recordings, tmp_path):
    import dataclasses

    first = recordings[0]
    wrong = dataclasses.replace(first.info, goals=tuple(reversed(first.info.goals)))
    parts.write_part(tmp_path / "d", 0, dataclasses.replace(first, info=wrong))
    finish.finish(tmp_path / "d", 1, {})
    with pytest.raises(UserError, match="other scenes"):
        build_cache([tmp_path / "d"], tmp_path / "c")
