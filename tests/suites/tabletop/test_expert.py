import numpy as np
import pytest

from vlm4vla.ablation.registry import perturbation
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.rollout import record
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import controller, expert
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.suites.tabletop.scene import TASKS, sample_episode
from vlm4vla.suites.tabletop.types import Pictures
from vlm4vla.workers.environment import EnvironmentProcess

BLIND = Pictures(image=False)


@pytest.mark.parametrize("task", TASKS)
def test_expert_succeeds_with_legal_actions_and_touches_nothing_else(tabletop: Tabletop, task):
    for seed in range(6):
        episode = sample_episode(task, seed)
        seen = tabletop.reset(episode.scene, episode.goal, BLIND)
        events = list(seen.events)
        while not seen.done:
            action = expert.act(seen.state, episode.goal)
            assert action.shape == (7,) and action.dtype == np.float32
            assert np.all(np.abs(action[:3]) <= expert.ACTION_CAP + 1e-6)
            assert np.all(action[3:6] == 0) and action[6] in (-1.0, 1.0)
            seen = tabletop.step(action, BLIND)
            events += seen.events
        assert seen.success, (task, seed, events)
        assert "wrong_object" not in events


@pytest.mark.parametrize("task", TASKS)
def test_plan_is_within_three_millimetres_of_what_the_expert_then_does(tabletop: Tabletop, task):
    """Four planned actions, carried out blindly, lead to where four looked-up actions lead."""
    apart = []
    for seed in range(20, 25):
        episode = sample_episode(task, seed)
        seen = tabletop.reset(episode.scene, episode.goal, BLIND)
        while not seen.done:
            plan = expert.plan(seen.state, episode.goal, 4)
            predicted = _predicted_path(seen.state, plan)
            real = []
            for _ in range(4):
                action = expert.act(seen.state, episode.goal)
                seen = tabletop.step(action, BLIND)
                real.append(seen.state.tcp)
                if seen.done:
                    break
            if len(real) == 4:
                apart.append(np.linalg.norm(predicted - real[-1]))
    assert np.median(apart) < 0.003


def _predicted_path(state, plan):
    """Where the controller's model says the plan leads."""
    position = state.tcp.astype(float)
    velocity = state.velocity.astype(float)
    for action in plan:
        position, velocity = controller.respond(position, velocity, action[:3])
    return position


def test_expert_recovers_from_any_state(tabletop: Tabletop):
    """Thrown off course for a while, it still gets there: it has no phases to lose."""
    rng = np.random.default_rng(0)
    for seed in range(40, 44):
        episode = sample_episode("pick", seed)
        seen = tabletop.reset(episode.scene, episode.goal, BLIND)
        for _ in range(8):
            push = np.array([*rng.uniform(-0.6, 0.6, 2), 0.3, 0, 0, 0, rng.choice([-1, 1])])
            seen = tabletop.step(push.astype(np.float32), BLIND)
        while not seen.done:
            seen = tabletop.step(expert.act(seen.state, episode.goal), BLIND)
        assert seen.success


def test_act_is_the_first_action_of_the_plan(tabletop: Tabletop):
    episode = sample_episode("place", 3)
    state = tabletop.reset(episode.scene, episode.goal, BLIND).state
    for goal in episode.scene.goals():
        np.testing.assert_array_equal(
            expert.act(state, goal), expert.plan(state, goal, 4)[0], err_msg=str(goal)
        )


def test_expert_rises_after_it_let_go(tabletop: Tabletop):
    episode = sample_episode("place", 5)
    seen = tabletop.reset(episode.scene, episode.goal, BLIND)
    while not seen.done:
        seen = tabletop.step(expert.act(seen.state, episode.goal), BLIND)
    let_go = seen.state.tcp[2]
    for _ in range(5):
        action = expert.act(seen.state, episode.goal)
        assert action[6] == 1.0
        seen = tabletop.step(action, BLIND)
    assert seen.state.tcp[2] > let_go + 0.03


def test_controller_model_is_within_three_millimetres_of_a_step(tabletop: Tabletop):
    rng = np.random.default_rng(1)
    off = []
    for seed in range(4):
        episode = sample_episode("pick", seed)
        seen = tabletop.reset(episode.scene, episode.goal, BLIND, (-0.05, 0.0, 0.16))
        for _ in range(10):
            action = np.append(rng.uniform(-0.4, 0.4, 3), [0, 0, 0, 1]).astype(np.float32)
            before = seen.state
            seen = tabletop.step(action, BLIND)
            expected, _ = controller.respond(before.tcp, before.velocity, action[:3])
            off.append(np.linalg.norm(seen.state.tcp - expected))
    assert np.median(off) < 0.003


def test_fingers_close_and_open_as_modelled(tabletop: Tabletop):
    episode = sample_episode("pick", 0)
    seen = tabletop.reset(episode.scene, episode.goal, BLIND, (-0.05, 0.0, 0.2))
    opening = seen.state.opening
    for gripper in (-1, -1, -1, 1, 1, 1):
        opening = controller.next_opening(opening, gripper)
        seen = tabletop.step(np.array([0, 0, 0, 0, 0, 0, gripper], np.float32), BLIND)
        assert seen.state.opening == pytest.approx(opening, abs=0.004)


@pytest.mark.long
@pytest.mark.parametrize(
    "change",
    [
        ("size", {"factor": 0.8}),
        ("size", {"factor": 1.2}),
        ("pale", {"share": 0.6}),
        ("distractors", {"count": 2}),
    ],
)
def test_other_things_leave_the_task_as_easy_for_the_expert(change):
    """The control of docs/results.md: what a policy loses there is not the task's doing."""
    name, numbers = change
    condition = Condition("known", perturbations=(perturbation(name, numbers),))
    env = EnvironmentProcess(TABLETOP)
    try:
        for task in TASKS:
            for seed in range(20):
                spec = TABLETOP.spec(task, seed, condition)
                done = record(TABLETOP, env, ExpertAgent(), spec, "evaluation")
                assert done.outcome.success, (task, seed)
    finally:
        env.close()
