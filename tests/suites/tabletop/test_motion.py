"""What moved in an episode: the fingers from the joints alone, and the goal's numbers by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tests.suites.tabletop.moved import episode_of, fingers_at
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Trace
from vlm4vla.core.rollout import record
from vlm4vla.suites.registry import MANISKILL, TABLETOP
from vlm4vla.suites.tabletop.kinematics import finger_tips


def test_the_straight_arm_and_its_first_joint_turned() -> None:
    # With all joints at 0 the links stand on each other and the hand hangs down from the seventh:
    # x = 0.088, z = 0.333 + 0.316 + 0.384 - 0.107 - 0.1034, the base at x = -0.615.
    straight = np.zeros(9)
    assert finger_tips(straight) == pytest.approx([0.088 - 0.615, 0.0, 0.8226], abs=1e-6)
    turned = np.array([np.pi / 2, *np.zeros(8)])
    assert finger_tips(turned) == pytest.approx([-0.615, 0.088, 0.8226], abs=1e-6)
    # The elbow at a right angle lays what comes after it down, 0.0825 off the axis on both sides:
    # x = 0.0825 + 0.384 - 0.2104, z = 0.333 + 0.316 + 0.0825 - 0.088.
    bent = np.array([0, 0, 0, -np.pi / 2, *np.zeros(5)])
    assert finger_tips(bent) == pytest.approx([0.2561 - 0.615, 0.0, 0.6435], abs=1e-6)
    both = finger_tips(np.stack([[straight, turned], [turned, straight]]))
    assert both.shape == (2, 2, 3) and np.array_equal(both[0, 1], both[1, 0])


def test_they_are_where_the_simulator_has_them(environment) -> None:
    from vlm4vla.agents.expert import ExpertAgent

    spec = TABLETOP.spec("pick", 3, Condition())
    episode = record(TABLETOP, environment, ExpertAgent(), spec, "rollout")
    tips = finger_tips(episode.trace.joints)
    for step in (0, len(tips) // 2, len(tips) - 1):
        pose = episode.trace.joints[step], episode.trace.poses[step]
        there = environment.draw(spec, type(environment.reset(spec).pose)(*pose)).privileged.tcp
        assert tips[step] == pytest.approx(there, abs=1e-4)
    motion = TABLETOP.motion(episode)
    assert motion is not None and motion.lifts and motion.target is None
    assert motion.raised[-1, motion.named] >= 0.05 and motion.distances[-1, motion.named] < 0.03


def test_how_far_a_named_object_is_from_where_it_should_rest() -> None:
    episode = episode_of("stack", steps=2)
    motion = TABLETOP.motion(episode)
    assert motion is not None and motion.target is not None
    named, target = motion.things[motion.named], motion.things[motion.target]
    poses = episode.trace.poses.copy()
    # At the end its centre is 3 cm beside the other's, one cm above where it would stand.
    poses[-1, motion.named, :3] = poses[-1, motion.target, :3]
    poses[-1, motion.named, 0] += 0.03
    poses[-1, motion.named, 2] += (named.size[0] + target.size[0]) / 2 + 0.01
    moved = TABLETOP.motion(replace(episode, trace=Trace(episode.trace.joints, poses)))
    assert moved is not None
    assert moved.outside[-1] == pytest.approx(0.03 - target.size[0] / 2, abs=1e-6)
    assert moved.above[-1] == pytest.approx(0.01, abs=1e-6)


def test_zones_are_rectangles_and_plates_circles() -> None:
    pushed = TABLETOP.motion(episode_of("push", steps=1))
    assert pushed is not None and pushed.target is not None
    x, y = pushed.place(pushed.named)
    there_x, there_y = pushed.place(pushed.target)
    beyond = np.hypot(max(abs(x - there_x) - 0.165, 0), max(abs(y - there_y) - 0.04, 0))
    assert pushed.outside[0] == pytest.approx(beyond, abs=1e-6)
    assert not pushed.things[pushed.target].round
    placed = TABLETOP.motion(episode_of("place", steps=1))
    assert placed is not None and placed.target is not None
    away = np.hypot(*np.subtract(placed.place(placed.named), placed.place(placed.target)))
    assert placed.outside[0] == pytest.approx(away - 0.053, abs=1e-6)
    # It stands on the table, and would rest on a floor of 4 mm.
    assert placed.above[0] == pytest.approx(-0.004, abs=1e-6)


def test_turns_and_tilts_are_those_of_the_quaternion() -> None:
    episode = episode_of("pick", steps=1, seed=2)
    poses = episode.trace.poses.copy()
    before = TABLETOP.motion(episode)
    assert before is not None
    flat = next(number for number in range(3) if not before.things[number].round)
    poses[0, flat, 3:] = (np.cos(0.2), 0, 0, np.sin(0.2))
    poses[1, flat, 3:] = (np.cos(0.3), np.sin(0.3), 0, 0)
    motion = TABLETOP.motion(replace(episode, trace=Trace(episode.trace.joints, poses)))
    assert motion is not None
    assert motion.yaws[0, flat] == pytest.approx(0.4, abs=1e-6)
    assert motion.tilts[0, flat] == pytest.approx(0, abs=1e-3)
    assert motion.tilts[1, flat] == pytest.approx(np.degrees(0.6), abs=1e-3)


def test_a_row_that_does_not_tell_what_moved_says_so() -> None:
    episode = episode_of("pick", steps=3)
    assert TABLETOP.motion(replace(episode, trace=Trace.empty())) is None
    assert TABLETOP.motion(replace(episode, actions=episode.actions[:1])) is None
    unasked = replace(episode, spec=replace(episode.spec, goal={}))
    assert TABLETOP.motion(unasked) is None
    assert MANISKILL.motion(episode) is None


def test_fingers_of_the_examples_are_where_they_are_put() -> None:
    wanted = np.array([[0.0, 0.1, 0.05], [-0.15, -0.1, 0.2]])
    assert finger_tips(fingers_at(wanted, 0.08)) == pytest.approx(wanted, abs=2e-4)
