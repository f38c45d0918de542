import hashlib
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import TASKS, sample_episode, sample_scene
from vlm4vla.suites.tabletop.types import Pictures

BLIND = Pictures(image=False)
ALL = Pictures(image=True, view=True, segmentation=True)


def fingerprint(simulator: Tabletop, task: str, seed: int) -> str:
    """Hash of every state and picture of an expert episode."""
    episode = sample_episode(task, seed)
    seen = simulator.reset(episode.scene, episode.goal)
    digest = hashlib.sha256()
    while True:
        for part in (seen.state.tcp, seen.state.velocity, seen.state.positions, seen.image):
            digest.update(np.ascontiguousarray(part).tobytes())
        if seen.done:
            return digest.hexdigest()
        seen = simulator.step(expert.act(seen.state, episode.goal))


IN_A_FRESH_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from test_env import fingerprint
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.system.vulkan import ensure_driver
ensure_driver()
print(fingerprint(Tabletop(), "place", 27))
"""


def test_same_states_and_pictures_whatever_ran_before(tabletop: Tabletop):
    first = {task: fingerprint(tabletop, task, 27) for task in TASKS}
    for task in reversed(TASKS):
        fingerprint(tabletop, task, 31)
        assert fingerprint(tabletop, task, 27) == first[task]
    folder = str(Path(__file__).parent)
    fresh = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS.format(folder=folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert fresh.stdout.strip() == first["place"]


def test_switching_the_goal_changes_nothing_else(tabletop: Tabletop):
    episode = sample_episode("pick", 3)
    other = sample_episode("pick", 3, alternate=True).goal
    a = tabletop.reset(episode.scene, episode.goal)
    b = tabletop.reset(episode.scene, other)
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.state.positions, b.state.positions)
    seen, events = b, list(b.events)
    while not seen.done:
        seen = tabletop.step(expert.act(seen.state, other), BLIND)
        events += seen.events
    assert seen.success and "wrong_object" not in events


def test_another_goal_is_watched_and_changes_nothing(tabletop: Tabletop):
    """An expert that does the scene's first goal where the second one is asked for."""
    episode = sample_episode("reach", 6)
    other = sample_episode("reach", 6, alternate=True).goal
    assert other != episode.goal
    alone = tabletop.reset(episode.scene, other, BLIND)
    seen = tabletop.reset(episode.scene, other, BLIND, watched=episode.goal)
    np.testing.assert_array_equal(alone.state.positions, seen.state.positions)
    while not (seen.done or seen.watched):
        seen = tabletop.step(expert.act(seen.state, episode.goal), BLIND)
    assert seen.watched and not seen.success


def test_things_stand_where_the_scene_says(tabletop: Tabletop):
    scene = sample_scene("containers", 9)
    state = tabletop.reset(scene, scene.goals()[0], BLIND).state
    for item in scene.objects:
        expected = (item.x, item.y, item.size / 2)
        assert state.position(item.name) == pytest.approx(expected, abs=1e-3)
        assert state.size(item.name) == pytest.approx(item.size)
    for place in scene.fixtures:
        assert state.position(place.name) == pytest.approx((place.x, place.y, 0.0), abs=1e-6)
    assert state.opening == pytest.approx(0.08, abs=1e-3)
    with pytest.raises(KeyError, match="pink cube"):
        state.position("pink cube")


def test_start_is_where_it_was_asked_for(tabletop: Tabletop):
    scene = sample_scene("objects", 2)
    seen = tabletop.reset(scene, scene.goals()[0], BLIND, (-0.12, 0.05, 0.13))
    assert seen.state.tcp == pytest.approx((-0.12, 0.05, 0.13), abs=2e-3)
    with pytest.raises(UserError, match="cannot start"):
        tabletop.reset(scene, scene.goals()[0], BLIND, (3.0, 0.0, 0.1))


def test_objects_are_wide_enough_to_see_and_have_their_colour(tabletop: Tabletop):
    """At least 12 pixels wide at 128, and red where it says red."""
    widths = []
    for seed in range(12):
        scene = sample_scene("objects", seed)
        seen = tabletop.reset(scene, scene.goals()[0], ALL, (-0.2, 0.0, 0.25))
        assert seen.image.shape == (128, 128, 3) and seen.image.dtype == np.uint8
        assert seen.view.shape == (384, 384, 3)
        for index, item in enumerate(scene.objects):
            rows, columns = np.nonzero(seen.segmentation == index)
            widths.append(columns.max() - columns.min() + 1)
            red, green, blue = np.median(seen.image[rows, columns], axis=0)
            if item.name.startswith("red"):
                assert red > 1.5 * max(green, blue)
            if item.name.startswith("blue"):
                assert blue > 1.5 * max(red, green)
            if item.name.startswith("green"):
                assert green > 1.5 * max(red, blue)
    assert min(widths) >= 12


def test_no_picture_is_made_that_was_not_asked_for(tabletop: Tabletop):
    scene = sample_scene("objects", 2)
    seen = tabletop.reset(scene, scene.goals()[0], BLIND)
    assert (seen.image, seen.view, seen.segmentation) == (None, None, None)
    assert seen.render_ms < 1.0


def test_a_goal_that_the_scene_does_not_have_is_refused(tabletop: Tabletop):
    scene = sample_scene("objects", 2)
    with pytest.raises(UserError, match="not possible in this scene"):
        tabletop.reset(scene, Goal("pick", "pink cube"))
    with pytest.raises(UserError, match=r"pink cube.* not possible in this scene"):
        tabletop.reset(scene, scene.goals()[0], watched=Goal("pick", "pink cube"))


def test_the_suite_is_registered_with_gymnasium():
    environment = gymnasium.make(
        "VLM4VLA-Push-v1",
        obs_mode="rgb",
        sim_backend="physx_cpu",
        render_backend="sapien_cpu",
    )
    seen, _ = environment.reset(seed=5)
    assert seen["sensor_data"]["policy"]["rgb"].shape == (1, 128, 128, 3)
    assert environment.action_space.shape == (7,)
    assert environment.unwrapped.goal == sample_episode("push", 5).goal
    environment.close()
