from dataclasses import replace

import numpy as np
import pytest

from tests.core.toy_suite import CAMERA, LIMIT, TOY, ToyAgent, ToyEnvironment
from vlm4vla.agents.expert import EXPERT, ExpertAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Event
from vlm4vla.core.rollout import Recorder, Shift, record, rollout, versions_of
from vlm4vla.suites.registry import TABLETOP


def spec(seed=3, **condition):
    return TOY.spec("go", seed, Condition(**condition))


def test_an_episode_by_hand():
    agent = ToyAgent()
    asked = spec()
    dot = np.random.default_rng(3).integers((24, 16), (40, 32))
    # Four pixels a step, both ways at once, until both are nearer than two to (4, 4).
    steps = max(int(np.ceil((side - 4 - 1) / 4)) for side in dot)
    episode = record(TOY, ToyEnvironment(), agent, asked, "rollout")
    assert episode.steps == steps
    assert episode.outcome.success
    assert episode.outcome.sentence == f"The dot arrived in {steps} steps."
    assert episode.events == (Event(steps, "arrived"),)
    assert episode.spec is asked and episode.source == "rollout"
    assert episode.agents == (AgentSpan(agent.identity),)
    assert episode.actions.shape == (steps, 7) and episode.actions.dtype == np.float32
    np.testing.assert_array_equal(episode.actions[0], [-4, -4, 0, 0, 0, 0, 0])
    assert [one.step for one in episode.predictions] == list(range(0, steps, 2))
    for one in episode.predictions:
        assert one.chunk.shape == (3, 7)
        ahead = episode.actions[one.step : one.step + 2]
        np.testing.assert_array_equal(one.chunk[: len(ahead)], ahead)
    assert (episode.trace.joints.shape, episode.trace.poses.shape) == ((0, 0), (0, 0, 7))
    assert episode.times.physics_ms == 0.5
    assert episode.times.think_ms > 0 and episode.times.began > 1.7e9
    assert set(episode.versions) == {"toy", "torch", "transformers"}
    assert "old_goal_done" not in episode.outcome.measures


def test_an_alternate_goal_tells_whether_the_first_was_done():
    other = record(TOY, ToyEnvironment(), ToyAgent(), spec(goal="alternate"), "rollout")
    assert other.spec.goal["corner"] == "blue" and other.outcome.success
    assert other.outcome.measures == {"old_goal_done": False}
    deaf = replace(spec(goal="alternate"), instruction="go to the red corner")
    stubborn = record(TOY, ToyEnvironment(), ToyAgent(), deaf, "rollout")
    assert stubborn.outcome.kind == "out of time" and stubborn.steps == LIMIT
    assert stubborn.outcome.measures == {"old_goal_done": True}
    assert stubborn.events == (Event(LIMIT, "timeout"),)


def test_an_episode_so_far_and_one_that_was_stopped_at_once():
    recorder = Recorder(TOY, spec(), [AgentSpan(ToyAgent().identity)])
    playing = rollout(ToyEnvironment(), ToyAgent(), spec())
    recorder.add(next(playing))
    none = recorder.episode("live", stopped=True, reading={"text": "go"})
    assert (none.steps, none.actions.shape, none.predictions) == (0, (0, 7), ())
    assert (none.outcome.kind, none.reading) == ("stopped", {"text": "go"})
    assert (none.times.think_ms, none.times.physics_ms) == (0.0, 0.0)
    for _ in range(3):
        recorder.add(next(playing))
    some = recorder.episode("live")
    assert (recorder.steps, some.steps, some.actions.shape) == (3, 3, (3, 7))
    assert [one.step for one in some.predictions] == [0, 2]
    assert none.actions.shape == (0, 7), "an episode that was handed out does not grow"


def test_predictions_of_a_branch_and_of_two_agents_tell_their_steps():
    parent = record(TOY, ToyEnvironment(), ToyAgent(1.0), spec(max_steps=5), "rollout")
    asked = replace(spec(max_steps=9), parent=parent.id, branch_step=3)
    shifts = [Shift(0, ToyAgent(1.0)), Shift(6, ToyAgent(2.0))]
    spans = [AgentSpan(one.identity, first) for first, one in shifts]
    recorder = Recorder(TOY, asked, spans)
    for step in rollout(ToyEnvironment(), shifts, asked, prefix=parent.actions[:3]):
        recorder.add(step)
    branch = recorder.episode("rollout")
    assert [one.step for one in branch.predictions] == [3, 5, 6, 8]
    np.testing.assert_array_equal(branch.actions[:3], parent.actions[:3])
    np.testing.assert_array_equal(branch.actions[[5, 6], 0], [-1, -2])
    assert branch.agents == tuple(spans) and branch.agent == spans[0].agent
    assert branch.id != parent.id


def test_poses_are_kept_from_the_start_to_the_end(environment):
    asked = TABLETOP.spec("push", 4, Condition(max_steps=6))
    recorder = Recorder(TABLETOP, asked, [AgentSpan(EXPERT)])
    seen = []
    for step in rollout(environment, ExpertAgent(), asked):
        recorder.add(step)
        seen.append(step.transition.pose)
    episode = recorder.episode("rollout")
    assert episode.steps == 6 and len(seen) == 7
    assert episode.trace.joints.shape == (7, 9) and episode.trace.joints.dtype == np.float32
    assert episode.trace.poses.shape == (7, 3, 7) and episode.trace.poses.dtype == np.float32
    for index, pose in enumerate(seen):
        np.testing.assert_array_equal(episode.trace.joints[index], pose.joints)
        np.testing.assert_array_equal(episode.trace.poses[index], pose.poses)
    assert "torch" not in episode.versions and "sapien" in episode.versions


@pytest.mark.parametrize(("kind", "torch"), [("expert", False), ("policy", True)])
def test_a_version_stands_where_it_changes_results(kind, torch):
    found = versions_of(TOY, [AgentSpan(AgentId(kind, "x"))])
    assert found["toy"] == "1" and ("torch" in found) == torch
    mixed = versions_of(TOY, [AgentSpan(AgentId("expert", "x")), AgentSpan(AgentId("policy", "x"))])
    assert "torch" in mixed


def test_the_cameras_name_is_the_agents_own():
    assert CAMERA == "top"
    agent = ToyAgent()
    record(TOY, ToyEnvironment(), agent, spec(), "rollout")
    assert {seen.images[CAMERA].shape for seen in agent.seen} == {(48, 64, 3)}
