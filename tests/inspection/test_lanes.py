"""The lanes of episodes whose geometry is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.inspection.examples import still_episode, towards
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Pose
from vlm4vla.core.rollout import record
from vlm4vla.errors import UserError
from vlm4vla.inspection.lanes import AIMED, aim, lanes_of
from vlm4vla.inspection.states import states_of
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.changes import AWAY, GONE
from vlm4vla.suites.tabletop.suite import goal_of, scene_of


def action(x: float, y: float, gripper: float = 1.0) -> list[float]:
    return [x, y, 0, 0, 0, 0, gripper]


def test_the_angle_is_that_between_the_command_and_the_way_to_a_thing() -> None:
    first = still_episode(np.array([action(0.1, 0.0)] * 4))
    name = first.spec.goal["object"]
    x, y = towards(first, name)
    turn = np.radians(40)
    turned = (x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn))
    rows = [action(0.3 * x, 0.3 * y), action(0.3 * turned[0], 0.3 * turned[1]), action(-x, -y)]
    lanes = lanes_of(still_episode(np.array([*rows, action(0.0, 0.0)])))
    thing = lanes.things.index(name)
    assert lanes.angles[:3, thing] == pytest.approx([0, 40, 180], abs=0.1)
    assert np.isnan(lanes.angles[3]).all()
    assert lanes.aims_at[0] == thing
    assert lanes.aims_at[2] != thing
    assert lanes.aims_at[3] == -1


def test_a_motion_aims_at_the_nearest_in_angle_or_at_what_the_tips_stand_over() -> None:
    positions = np.array([[0.1, 0.0, 0.02], [0.0, 0.2, 0.02], [0.005, 0.0, 0.02]])
    tip, motion = np.array([0.0, 0.0, 0.2]), np.array([10.0, 0.0, 0.0])
    far = positions[:2]
    assert aim(np.array([0.0, 90.0]), motion, tip, far, -1) == 0
    assert aim(np.array([AIMED + 1, 90.0]), motion, tip, far, -1) == -1
    assert aim(np.array([0.0, 90.0, np.nan]), motion, tip, positions, -1) == 2
    # What is held is nowhere to go.
    assert aim(np.array([0.0, 90.0, np.nan]), motion, tip, positions, 2) == 0


def test_the_distance_from_the_expert_is_that_of_the_commands() -> None:
    episode = still_episode(np.array([action(0.0, 0.0)] * 4))
    state, goal = states_of(episode)[0], goal_of(episode.spec)
    wanted = expert.act(state, goal)
    rows = np.tile(wanted, (4, 1))
    rows[1, 0] += 0.2
    rows[2, 6] = -rows[2, 6]
    asked = lanes_of(still_episode(rows)).expert
    assert asked is not None
    # Later steps: the speed is another one, which the law does not read.
    assert asked.millimetres == pytest.approx([0, 20, 0, 0], abs=1e-3)
    assert asked.fingers.tolist() == [True, True, False, True]


def test_nothing_aims_at_what_is_gone_and_no_expert_is_asked_about_it() -> None:
    first = still_episode(np.array([action(0.1, 0.0)] * 8))
    name = first.spec.goal["object"]
    index = [one.name for one in scene_of(first.spec).objects].index(name)
    x, y = towards(first, name)
    episode = still_episode(np.array([action(0.3 * x, 0.3 * y)] * 8))
    lanes = lanes_of(episode)
    assert lanes.aims_at.tolist() == [index] * 8 and lanes.asked
    poses = episode.trace.poses.copy()
    poses[3:, index, :3] = AWAY
    gone = Condition(perturbations=(Perturbation(GONE, {"name": name}, 3),))
    taken = replace(
        episode,
        spec=replace(episode.spec, condition=gone),
        trace=replace(episode.trace, poses=poses),
    )
    lanes = lanes_of(taken)
    assert (lanes.aims_at[:3] == index).all() and (lanes.aims_at[3:] != index).all()
    assert np.isnan(lanes.angles[3:, index]).all()
    assert not lanes.asked and lanes.expert is None
    assert all(name not in (one.goal.object, one.goal.target) for one in lanes.goals)
    assert lanes.goals and TABLETOP.motion(taken) is None and TABLETOP.motion(episode) is not None


def test_an_inference_leads_where_the_controller_takes_its_chunk() -> None:
    lanes = lanes_of(still_episode(np.array([action(0.5, 0.0)] * 6)))
    assert [(one.step, one.executed) for one in lanes.inferences] == [(0, 4), (4, 2)]
    path = lanes.inferences[0].path
    assert path[0] == pytest.approx(lanes.tips[0])
    # Half of what 1.0 gives when it is repeated, which is 4 cm a step; the first steps are slower.
    assert 0.02 < path[-1][0] - path[0][0] < 0.085
    assert np.abs(path[-1][1] - path[0][1]) < 0.01
    # The hand stayed where it was, so it was missed by as much as it was to go.
    gaps = lanes.inferences[0].gaps
    assert gaps == pytest.approx(np.linalg.norm(path - path[0], axis=1), abs=1e-6)
    # Of the second chunk only two actions came before the end.
    assert len(lanes.inferences[1].gaps) == 3


def test_true_states_are_those_of_the_simulator(environment: Any) -> None:
    spec = TABLETOP.spec("place", 3, Condition())
    episode = record(TABLETOP, environment, ExpertAgent(), spec, "rollout")
    found = states_of(episode)
    assert len(found) == episode.steps + 1
    for step in (0, 9, episode.steps):
        pose = Pose(episode.trace.joints[step], episode.trace.poses[step])
        drawn = environment.draw(spec, pose).privileged
        assert found[step].tcp == pytest.approx(drawn.tcp, abs=1e-5)
        assert found[step].positions == pytest.approx(drawn.positions, abs=1e-6)
        assert found[step].opening == pytest.approx(drawn.opening, abs=1e-6)
        assert (found[step].names, found[step].movable) == (drawn.names, drawn.movable)
        assert found[step].sizes == pytest.approx(drawn.sizes)
    assert lanes_of(episode).held.max() >= 0


def test_an_episode_without_poses_is_refused() -> None:
    whole = still_episode(np.array([action(0.1, 0.0)] * 4))
    with pytest.raises(UserError, match="no pose for every step"):
        states_of(still_episode(whole.actions, joints=whole.trace.joints[:3]))
