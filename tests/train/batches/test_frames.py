from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_cache

from vlm4vla.errors import UserError
from vlm4vla.language.reading import read_in_scene
from vlm4vla.suites.tabletop.instructions import paraphrases
from vlm4vla.suites.tabletop.scene import things
from vlm4vla.train.batches.frames import Frames


def across_of_tips(tcp):
    """What is nearer to the camera, which stands 2 m away at 50 degrees, looks larger."""
    depth = 2.0 - (
        (tcp[0] + 0.10) * np.cos(np.radians(50)) + (tcp[2] - 0.026) * np.sin(np.radians(50))
    )
    focal = 64 / np.tan(0.1)
    return 64 + focal * tcp[1] / depth


@pytest.fixture(scope="module")
def cache():
    return make_cache(episodes=10, frames=3)


@pytest.fixture(scope="module")
def frames(cache):
    return Frames(cache, np.arange(len(cache)))


@pytest.mark.parametrize(("times", "low", "high"), [(0, 0, 0), (1e6, 0.35, 0.6)])
def test_half_compare_things_at_most(frames, times, low, high):
    batch = frames.draw(60, 3, np.random.default_rng(0), comparisons=times)
    compare = {"leftmost", "left", "nearest", "closest", "farthest", "furthest", "behind", "other"}
    compare |= {"rightmost", "right", "between", "front", "not", "except", "but"}
    share = np.mean([bool(compare & set(text.split())) for text in batch.instructions])
    assert low <= share <= high


def test_rows_hold_what_is_true_of_their_frame_and_goal(cache, frames):
    batch = frames.draw(6, 3, np.random.default_rng(0))
    assert batch.numbers.shape == (6,)
    assert batch.image_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]
    for row, goal in enumerate(batch.goals):
        frame = int(batch.numbers[batch.image_index[row]])
        info = cache.episodes[cache.episode[frame]]
        place = cache.positions[frame, info.things.index(goal.object)]
        assert batch.thing[row].tolist() == place.tolist()
        label = cache.labels(frame)[info.goals.index(str(goal))]
        assert (batch.chunks[row] == label).all()
        assert batch.tcp[row].tolist() == cache.state[frame, :3].tolist()
        assert batch.has_place[row] == (goal.target is not None)
        assert batch.is_first[row] == (cache.step[frame] == 0)


def test_half_of_the_instructions_of_training_are_broad(frames):
    batch = frames.draw(60, 3, np.random.default_rng(0))
    known = [
        text in paraphrases(goal)
        for text, goal in zip(batch.instructions, batch.goals, strict=True)
    ]
    assert 0.4 < np.mean(known) < 0.7
    held = frames.every_goal(np.array([0]), np.random.default_rng(0))
    assert all(
        text in paraphrases(goal, held_out=True)
        for text, goal in zip(held.instructions, held.goals, strict=True)
    )


def test_no_goal_comes_twice_and_tasks_are_equally_likely(frames):
    rng = np.random.default_rng(1)
    tasks = []
    for _ in range(150):
        batch = frames.draw(1, 3, rng)
        assert len(set(batch.goals)) == 3
        tasks.append(batch.goals[0].task)
    for task in ("reach", "pick", "stack"):
        assert 0.2 < tasks.count(task) / len(tasks) < 0.47


def test_the_followed_goal_is_among_those_of_a_weighted_draw(cache, frames):
    batch = frames.draw(30, 2, np.random.default_rng(2), weighted=True)
    for row, frame in enumerate(batch.numbers):
        followed = cache.episodes[cache.episode[frame]].goal
        mine = [goal for goal, i in zip(batch.goals, batch.image_index, strict=True) if i == row]
        assert mine[0] == followed
        assert len(set(mine)) == 2
    seeing = frames.draw(3, 0, np.random.default_rng(2), weighted=True)
    assert seeing.goals == ()


def test_only_the_wanted_tasks_are_drawn(cache):
    frames = Frames(cache, np.arange(len(cache)), ["reach"])
    batch = frames.draw(20, 5, np.random.default_rng(0))
    assert {goal.task for goal in batch.goals} == {"reach"}


def test_data_without_the_task_is_refused(cache):
    with pytest.raises(UserError, match="no frames for push"):
        Frames(cache, np.arange(len(cache)), ["push"])


def test_every_goal_covers_all_valid_instructions_in_held_out_words(cache, frames):
    batch = frames.every_goal(np.array([0, 3]), np.random.default_rng(0))
    expected = [*frames.scene(0).goals(), *frames.scene(1).goals()]
    assert list(batch.goals) == expected
    held_out = set(batch.instructions)
    for scene in (2, 3, 4):
        for goal in frames.scene(scene).goals():
            held_out.update(paraphrases(goal, held_out=True))
    # One broad sentence in some hundreds would be one of them by chance.
    rng, seen = np.random.default_rng(1), set()
    for _ in range(100):
        seen.update(frames.draw(10, 3, rng).instructions)
    assert not seen & held_out


@pytest.fixture
def decisive():
    """One episode whose frames are 7 cm from contact with open fingers that stay open, but for:

    1: 3 cm from contact. 2: the last label closes. 3: both. 4: the last label of another goal
    closes. 5: the fingers are closed and open. 6: they are closed and stay so.
    """
    cache = make_cache(episodes=1, frames=7)
    info = cache.episodes[0]
    thing, followed = info.things.index(info.goal.object), info.goals.index(str(info.goal))
    cache.state[:, :3] = cache.positions[:, thing] + np.float32([0.07, 0, 0])
    cache.state[[1, 3], 0] -= 0.04
    cache.state[[5, 6], 3] = 0.03
    cache.chunks[..., 6] = 1
    cache.labels(2)[followed, -1, 6] = cache.labels(3)[followed, -1, 6] = -1
    cache.labels(4)[followed - 1, -1, 6] = -1
    cache.labels(6)[followed, :, 6] = -1
    return cache


def test_frames_near_contact_and_switches_weigh_three_times(decisive):
    weights = np.diff(Frames(decisive, np.arange(7), ["pick"]).cumulative, prepend=0)
    assert weights.tolist() == [1, 3, 3, 3, 1, 3, 1]


def test_frames_that_a_policy_got_into_weigh_three_times_as_much(decisive):
    info = replace(decisive.episodes[0], driver="policy 1")
    visited = Frames(replace(decisive, episodes=(info,)), np.arange(7), ["pick"])
    assert np.diff(visited.cumulative, prepend=0).tolist() == [3, 9, 9, 9, 3, 9, 3]


def test_cells_are_where_the_policy_camera_sees_things(cache, frames):
    (cells,) = frames.cells(np.array([0]))
    info = cache.episodes[0]
    assert set(cells) == {*info.things, "tips", "robotic arm"}
    tips = cache.state[0, :3]
    for name, point in (("tips", tips), ("robotic arm", tips * (1, 1, 0))):
        assert abs(cells[name][0] - across_of_tips(point) / 4) < 1.5
    assert cells["robotic arm"][1] >= cells["tips"][1]
    for name, centre in zip(info.things, cache.positions[0, : len(info.things)], strict=True):
        # 319 pixels a metre across, 4 pixels a cell, the middle of the picture at y = 0.
        assert abs(cells[name][0] - (64 + 319 * centre[1]) / 4) < 1.5


def test_distances_to_missing_objects_are_never_the_smallest(frames):
    batch = frames.draw(10, 3, np.random.default_rng(0))
    nearest = np.linalg.norm(batch.others - batch.thing[:, None], axis=-1).argmin(-1)
    assert np.allclose(batch.others[np.arange(len(nearest)), nearest], batch.thing)


def test_ranks_draw_disjoint_parts_of_one_batch(frames):
    whole = frames.draw(6, 2, np.random.default_rng(3), weighted=True)
    for rank in range(2):
        part = frames.draw(6, 2, np.random.default_rng(3), weighted=True, rank=rank, ranks=2)
        assert part.numbers.tolist() == whole.numbers[rank::2].tolist()
        mine = np.isin(whole.image_index, np.arange(rank, 6, 2))
        assert part.instructions == tuple(np.array(whole.instructions)[mine])


def test_comparing_sentences_mean_their_goals_by_comparison(cache, frames):
    numbers = np.arange(len(cache))[::3]
    batch = frames.comparing(numbers, np.random.default_rng(0))
    assert {goal.task for goal in batch.goals} == {"reach", "pick"}
    told = set()
    for row, goal in enumerate(batch.goals):
        scene = frames.scene(int(cache.episode[numbers[batch.image_index[row]]]))
        goals = [(g.task, g.object, g.target) for g in scene.goals()]
        reading = read_in_scene(batch.instructions[row], things(scene), goals)
        assert reading.goal == (goal.task, goal.object, None)
        told.update(batch.instructions[row].split())
    assert told & {"leftmost", "rightmost"} and told & {"nearest", "closest"}


def test_where_nothing_can_be_compared_no_sentence_is_drawn(cache):
    frames = Frames(cache, np.arange(len(cache)), ["push", "place", "stack"])
    batch = frames.comparing(np.arange(len(cache)), np.random.default_rng(0))
    assert not batch.instructions and not len(batch.image_index)


@pytest.mark.parametrize("from_start", [True, False])
def test_broad_sentences_mean_their_goals_as_things_stood_at_the_start(cache, from_start):
    # Left and right change places after an episode's first frame.
    turned = np.where((cache.step > 0)[:, None, None], [1.0, -1.0, 1.0], 1.0)
    later = replace(cache, positions=(cache.positions * turned).astype(np.float32))
    frames = Frames(later, np.flatnonzero(cache.step > 0))
    batch = frames.draw(40, 3, np.random.default_rng(0), comparisons=1e6, from_start=from_start)
    meant = {True: 0, False: 0}
    for row, (text, goal) in enumerate(zip(batch.instructions, batch.goals, strict=True)):
        scene = frames.scene(int(cache.episode[batch.numbers[batch.image_index[row]]]))
        keys = [(g.task, g.object, g.target) for g in scene.goals()]
        began = things(scene)
        for start, there in (True, began), (False, [replace(t, y=-t.y) for t in began]):
            reading = read_in_scene(text, there, keys)
            meant[start] += reading.goal == (goal.task, goal.object, goal.target)
    assert meant[from_start] == len(batch.goals)
    assert meant[not from_start] < 0.9 * len(batch.goals)
