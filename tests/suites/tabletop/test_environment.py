"""The suite as an environment: conditions, the segmentation, and replay from stored poses."""

from dataclasses import replace

import numpy as np
import pytest

from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import Event
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.suite import goal_of, with_sentence
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS, ROBOT
from vlm4vla.workers.environment import EnvironmentProcess

BOTH = ("policy", "view")


def play(environment, spec, cameras=("policy",)):
    """What there was at every step of an expert episode: transition, segments, truth; actions."""
    moments, actions = [], []
    transition = environment.reset(spec, cameras)
    while True:
        moments.append((transition, environment.segmentation(), environment.privileged()))
        if transition.done:
            return moments, actions
        actions.append(expert.act(environment.privileged(), goal_of(spec)))
        transition = environment.step(actions[-1], cameras)


@pytest.mark.parametrize(("task", "seed"), [("pick", 3), ("push", 4), ("stack", 8)])
def test_stored_poses_draw_the_episode_again(environment, task, seed):
    spec = TABLETOP.spec(task, seed, Condition())
    moments, _ = play(environment, spec, BOTH)
    environment.reset(TABLETOP.spec("place", 1, Condition()))
    for transition, segments, truth in reversed(moments[::3]):
        drawn = environment.draw(spec, transition.pose, BOTH, segmentation=True)
        state = drawn.privileged
        assert state.names == truth.names
        for name in ("positions", "sizes"):
            np.testing.assert_array_equal(getattr(state, name), getattr(truth, name))
        np.testing.assert_allclose(state.tcp, truth.tcp, atol=1e-6)
        assert state.opening == truth.opening
        np.testing.assert_array_equal(drawn.segmentation, segments)
        # Setting the joints places the links up to 2.4e-7 m from where physics left them, which
        # shows at an edge now and then.
        for camera, most in (("policy", 12), ("view", 60)):
            live = transition.observation.images[camera]
            assert np.sum(drawn.images[camera] != live) <= most


def test_another_process_draws_the_same_without_having_played(environment):
    spec = TABLETOP.spec("push", 4, Condition())
    environment.reset(spec)
    moved = environment.step(np.array([0.5, 0.2, -0.3, 0, 0, 0, -1], np.float32)).pose
    here = environment.draw(spec, moved, BOTH, segmentation=True)
    process = EnvironmentProcess(TABLETOP)
    there = process.draw(spec, moved, BOTH, segmentation=True)
    process.close()
    for camera in BOTH:
        np.testing.assert_array_equal(here.images[camera], there.images[camera])
    np.testing.assert_array_equal(here.segmentation, there.segmentation)
    np.testing.assert_array_equal(here.privileged.positions, there.privileged.positions)


def test_only_what_is_asked_for_is_drawn_and_the_running_episode_is_lost(environment):
    spec = TABLETOP.spec("pick", 3, Condition())
    pose = environment.reset(spec).pose
    drawn = environment.draw(spec, pose, ("view",))
    assert set(drawn.images) == {"view"} and drawn.segmentation is None
    assert not environment.draw(spec, pose).images
    assert environment.draw(spec, pose, segmentation=True).segmentation.shape == (128, 128)
    with pytest.raises(UserError, match="no episode"):
        environment.step(np.zeros(7, np.float32))
    np.testing.assert_array_equal(environment.reset(spec).pose.joints, pose.joints)


@pytest.mark.parametrize("task", ["pick", "place"])
def test_the_executed_actions_give_the_same_joints_and_poses_again(environment, task):
    spec = TABLETOP.spec(task, 12, Condition())
    moments, actions = play(environment, spec)
    environment.draw(spec, moments[-1][0].pose)
    again = [environment.reset(spec)] + [environment.step(action) for action in actions]
    assert len(again) == len(moments) and again[-1].success
    for transition, (before, _, _) in zip(again, moments, strict=True):
        np.testing.assert_array_equal(transition.pose.joints, before.pose.joints)
        np.testing.assert_array_equal(transition.pose.poses, before.pose.poses)
        assert transition.events == before.events
        assert not transition.observation.images


def test_the_segmentation_knows_the_arm_the_fingers_and_every_thing(environment):
    down = Perturbation("start", {"x": -0.05, "y": 0.0, "z": 0.12})
    spec = TABLETOP.spec("push", 4, Condition(perturbations=(down,)))
    environment.reset(spec, ("policy",))
    segments, state = environment.segmentation(), environment.privileged()
    known = {BACKGROUND, ROBOT, FINGERS, *range(len(state.names))}
    assert (BACKGROUND, ROBOT, FINGERS) == (-1, -2, -3)
    assert set(np.unique(segments)) <= known
    assert {ROBOT, FINGERS} <= set(np.unique(segments))
    assert np.sum(segments == ROBOT) > 4 * np.sum(segments == FINGERS) > 0
    # The camera looks at the robot from the front: the arm comes down from above, and the fingers
    # hang below it.
    rows = {number: np.nonzero(segments == number)[0] for number in (ROBOT, FINGERS)}
    assert rows[ROBOT].min() == 0
    assert rows[FINGERS].max() > rows[ROBOT].max()
    assert segments.dtype == np.int16 and segments.shape == (128, 128)
    away = Perturbation("start", {"x": -0.30, "y": 0.0, "z": 0.30})
    environment.reset(TABLETOP.spec("push", 4, Condition(perturbations=(away,))), ("policy",))
    assert np.sum(environment.segmentation() == FINGERS) < np.sum(segments == FINGERS)


def test_a_start_is_a_perturbation_and_one_out_of_reach_is_refused(environment):
    def at(x, y, z):
        return Condition(perturbations=(Perturbation("start", {"x": x, "y": y, "z": z}),))

    environment.reset(TABLETOP.spec("reach", 2, at(-0.12, 0.05, 0.13)))
    assert environment.privileged().tcp == pytest.approx((-0.12, 0.05, 0.13), abs=2e-3)
    with pytest.raises(UserError, match="cannot start"):
        environment.reset(TABLETOP.spec("reach", 2, at(3.0, 0.0, 0.1)))


def test_an_alternate_goal_watches_the_first_and_proprioception_is_the_hand(environment):
    spec = TABLETOP.spec("reach", 6, Condition(goal="alternate"))
    first = TABLETOP.spec("reach", 6, Condition())
    assert spec.goal != first.goal
    transition = environment.reset(spec)
    while not (transition.done or transition.watched):
        transition = environment.step(expert.act(environment.privileged(), goal_of(first)))
        state = environment.privileged()
        np.testing.assert_array_equal(
            transition.observation.proprio, np.float32([*state.tcp, state.opening])
        )
    assert transition.watched and not transition.success
    environment.reset(first)
    moments, _ = play(environment, first)
    assert not any(transition.watched for transition, _, _ in moments)


def test_a_task_of_another_suite_is_refused(environment):
    spec = TABLETOP.spec("reach", 6, Condition())
    with pytest.raises(UserError, match="Unknown task 'juggle'; known: reach, pick"):
        environment.reset(replace(spec, task="juggle"))


def test_where_nothing_can_be_judged_it_is_told_what_happened(environment):
    """An expert lifts a thing while nobody knows what was asked for."""
    asked = TABLETOP.spec("pick", 3, Condition())
    goal = goal_of(asked)
    spec = with_sentence(asked, "do something nice", None)
    with pytest.raises(UserError, match=r"Nothing that could be judged.*do something nice"):
        goal_of(spec)
    assert TABLETOP.limit(spec) == 100
    told, transition = [], environment.reset(spec)
    while f"lifted {goal.object}" not in told:
        assert not transition.success and not transition.done
        transition = environment.step(expert.act(environment.privileged(), goal))
        told += transition.events
    assert told[:2] == [f"touched {goal.object}", f"moved {goal.object}"]
    happened = [Event(9, name) for name in told]
    outcome = TABLETOP.tell(spec, happened, 12)
    assert outcome.kind == "not judged" and not outcome.success
    assert outcome.sentence == (
        f"Not judged. In 12 steps (0.6 s of the robot's time) the robot touched the {goal.object} "
        f"at step 9, moved the {goal.object} at step 9 and lifted the {goal.object} at step 9."
    )
    idle = TABLETOP.tell(spec, [Event(100, "timeout")], 100)
    assert idle.sentence.endswith("the robot touched nothing.")


def test_an_infinite_action_is_not_carried_out(environment):
    environment.reset(TABLETOP.spec("reach", 1, Condition()))
    for wrong in ([np.inf, 0, 0, 0, 0, 0, 1], [0, 0, np.nan, 0, 0, 0, 1], [0] * 6):
        with pytest.raises(UserError, match=r"is not finite|7 numbers"):
            environment.step(wrong)
    assert environment.step(np.zeros(7)).observation.step == 1
