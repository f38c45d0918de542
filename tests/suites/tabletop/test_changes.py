"""What perturbations change in the world: looks and distractors."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.changes import CHANGES, GONE, START, changed_scene, looks_of, turned
from vlm4vla.suites.tabletop.projection import POLICY_LENS
from vlm4vla.suites.tabletop.scene import sample_scene
from vlm4vla.suites.tabletop.suite import scene_of
from vlm4vla.suites.tabletop.vocabulary import colour_of

BODIES = 0.049
"""The largest object's width in metres."""


def spec(*changes, task="place", seed=3):
    return TABLETOP.spec(task, seed, Condition(perturbations=changes))


def test_every_perturbation_of_the_simulator_is_carried_out():
    named = {name for name in PERTURBATIONS if PERTURBATIONS.get(name).place == "simulator"}
    assert named | {START, GONE} == set(CHANGES)


@pytest.mark.parametrize("layout", ["objects", "zones", "containers"])
@pytest.mark.parametrize("count", [1, 2])
def test_distractors_stand_free_and_no_sentence_can_mean_them(layout, count):
    change = [perturbation("distractors", {"count": count})]
    for seed in range(40):
        plain = sample_scene(layout, seed)
        scene = changed_scene(plain, change)
        assert scene.objects[:-count] == plain.objects and scene.fixtures == plain.fixtures
        names = [item.name for item in scene.objects]
        assert len(set(names)) == len(names)
        assert len({(item.shape, item.size) for item in scene.objects}) == len(names)
        for added in scene.objects[-count:]:
            assert colour_of(added.name) not in {colour_of(place.name) for place in scene.fixtures}
            for other in scene.objects:
                if other != added:
                    assert np.hypot(other.x - added.x, other.y - added.y) > BODIES * np.sqrt(2)
        assert changed_scene(plain, change) == scene


def test_a_turned_lens_is_as_far_and_as_high_and_looks_at_the_same():
    quarter = turned(POLICY_LENS, 90.0)
    across = POLICY_LENS.eye[0] - POLICY_LENS.target[0]
    assert quarter.eye == pytest.approx((POLICY_LENS.target[0], across, POLICY_LENS.eye[2]))
    assert quarter.target == POLICY_LENS.target
    assert turned(POLICY_LENS, 0.0) == POLICY_LENS


def test_the_world_looks_as_it_is_told_and_as_usual_afterwards(environment):
    def picture(*changes):
        return environment.reset(spec(*changes), ("policy",)).observation.images["policy"]

    usual = picture()
    assert picture(perturbation("light", {"factor": 0.5})).mean() < 0.8 * usual.mean()
    blue = picture(perturbation("table-colour", {"red": 0.0, "green": 0.0, "blue": 0.8}))
    assert blue[100, 60, 2] > 2 * blue[100, 60, 0] and usual[100, 60, 0] > usual[100, 60, 2]
    for change in (perturbation("camera", {"degrees": 5.0}), perturbation("shade")):
        assert (picture(change) != usual).any(axis=-1).mean() > 0.01
    crowded = spec(perturbation("distractors"))
    environment.reset(crowded, ("policy",))
    state, shown = environment.privileged(), set(np.unique(environment.segmentation()))
    assert state.names[: state.movable] == tuple(o.name for o in scene_of(crowded).objects)
    assert set(range(len(state.names))) <= shown
    np.testing.assert_array_equal(picture(), usual)


def test_colours_are_mixed_with_white_and_then_shaded():
    changes = [perturbation("pale", {"share": 0.5}), perturbation("shade", {"factor": 0.6})]
    # (0.5 * 0.8 + 0.5) * 0.6 and (0.5 * 0.03 + 0.5) * 0.6.
    red = looks_of(changes).paint((0.80, 0.03, 0.03))
    assert red == pytest.approx((0.54, 0.309, 0.309))
    assert looks_of([]).paint((0.80, 0.03, 0.03)) == (0.80, 0.03, 0.03)


def test_things_have_the_size_that_was_asked_for_and_the_next_episode_knows_nothing(environment):
    """Heights and widths by the simulator, and the usual episode before and after, bit by bit."""
    down = np.array([0, 0, -0.5, 0, 0, 0, 1.0], np.float32)

    def played(one):
        moments = [environment.reset(one, ("policy",))]
        moments += [environment.step(down, ("policy",)) for _ in range(5)]
        return moments

    usual = played(spec())
    for factor in (0.7, 1.37):
        sized = spec(perturbation("size", {"factor": factor}))
        things = zip(scene_of(spec()).objects, scene_of(sized).objects, strict=True)
        for plain, other in things:
            assert other == replace(plain, size=pytest.approx(factor * plain.size))
        moment = played(sized)[0]
        # Everything rests on the table, its centre half its size above it.
        heights = [item.size / 2 for item in scene_of(sized).objects]
        assert moment.pose.poses[:, 2] == pytest.approx(heights, abs=1e-3)
        seen = environment.segmentation()
        assert set(range(len(heights))) <= set(np.unique(seen))
        assert environment.privileged().sizes[: len(heights)] == pytest.approx(
            2 * np.array(heights)
        )
    for before, after in zip(usual, played(spec()), strict=True):
        np.testing.assert_array_equal(after.pose.poses, before.pose.poses)
        np.testing.assert_array_equal(after.pose.joints, before.pose.joints)


def cube(item):
    return item.shape == "cube"


def widening(item):
    """How much wider a square is that is turned by its yaw."""
    return np.cos(item.yaw) + abs(np.sin(item.yaw))


@pytest.mark.parametrize("layout", ["objects", "zones", "containers"])
def test_the_largest_things_do_not_touch(layout):
    change = [perturbation("size", {"factor": PERTURBATIONS.get("size").values["factor"].most})]
    for seed in range(300):
        things = changed_scene(sample_scene(layout, seed), change).objects
        for pair in combinations(things, 2):
            one, other = pair
            apart = np.abs([one.x - other.x, one.y - other.y])
            boxes = sum(item.size / 2 * (widening(item) if cube(item) else 1) for item in pair)
            circles = sum(item.size / 2 * (np.sqrt(2) if cube(item) else 1) for item in pair)
            assert apart.max() > boxes or np.hypot(*apart) > circles


def test_a_changed_world_is_drawn_again_as_it_was(environment):
    dark = spec(perturbation("light", {"factor": 0.5}), perturbation("distractors"))
    seen = environment.reset(dark, ("policy",))
    environment.reset(spec(), ("policy",))
    drawn = environment.draw(dark, seen.pose, ("policy",))
    differing = drawn.images["policy"] != seen.observation.images["policy"]
    assert np.sum(differing) <= 12


def test_the_world_changes_for_a_whole_episode_or_not_at_all(environment):
    late = Perturbation(START, {"x": -0.1, "y": 0.0, "z": 0.2}, first_step=3)
    with pytest.raises(UserError, match="'start' of the tabletop's world holds for a whole"):
        environment.reset(spec(late))


@pytest.mark.parametrize("first", [0, 3])
def test_a_thing_that_is_gone_is_seen_no_more_and_is_back_in_the_next_episode(environment, first):
    plain = spec()
    name = scene_of(plain).objects[0].name
    taken = spec(Perturbation(GONE, {"name": name}, first))
    still = np.array([0, 0, 0, 0, 0, 0, 1.0], np.float32)

    def played(one):
        moments = [environment.reset(one, ("policy",))]
        shown = [0 in environment.segmentation()]
        for _ in range(6):
            moments.append(environment.step(still, ("policy",)))
            shown.append(0 in environment.segmentation())
        return moments, shown

    before, _ = played(plain)
    moments, shown = played(taken)
    assert shown == [step < first for step in range(7)]
    heights = [moment.pose.poses[0, 2] for moment in moments]
    assert all((height < -9) == (step >= first) for step, height in enumerate(heights))
    # Nobody has moved it, and nothing else moves.
    assert all(moment.events == () for moment in moments)
    np.testing.assert_allclose(
        moments[-1].pose.poses[1:, :3], before[-1].pose.poses[1:, :3], atol=1e-3
    )
    drawn = environment.draw(taken, moments[-1].pose, ("policy",), segmentation=True)
    assert 0 not in drawn.segmentation
    after, shown = played(plain)
    assert all(shown)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.pose.poses, other.pose.poses)


def test_what_is_not_there_cannot_go_and_what_is_gone_does_not_come_back(environment):
    with pytest.raises(UserError, match="no pink elephant here"):
        environment.reset(spec(Perturbation(GONE, {"name": "pink elephant"})))
    name = scene_of(spec()).objects[0].name
    with pytest.raises(UserError, match="does not come back"):
        environment.reset(spec(Perturbation(GONE, {"name": name}, 1, 2)))
