"""The expert as it demonstrates: noise within bounds, and only where it was asked for."""

import fake_environment
import numpy as np
import pytest

from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.rollout import rollout
from vlm4vla.data.demonstrator import NOISE_SPREAD, Demonstrator, disturbed, draw
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import sample_episode


def test_two_thirds_of_the_episodes_have_noise_and_three_in_ten_start_near():
    drawn = []
    for seed in range(600):
        episode = sample_episode("pick", seed)
        rng = np.random.default_rng(seed)
        drawn.append(draw(episode.scene, episode.goal, rng, expert=True))
    # Binomial, 600 draws: three standard deviations are below 0.06.
    assert abs(np.mean([d.noise > 0 for d in drawn]) - 2 / 3) < 0.06
    assert abs(np.mean([d.start is not None for d in drawn]) - 0.3) < 0.06
    policy = draw(episode.scene, episode.goal, np.random.default_rng(0), expert=False)
    assert policy.noise == 0.0


def test_noise_stays_within_the_action_range_and_turns_nothing():
    rng = np.random.default_rng(0)
    action = np.array([0.95, -0.95, 0.0, 0.0, 0.0, 0.0, 1.0], np.float32)
    noisy = np.stack([disturbed(action, rng) for _ in range(500)])
    assert np.abs(noisy).max() <= 1.0
    assert (noisy[:, 3:6] == 0).all()
    assert set(noisy[:, 6]) == {1.0, -1.0}
    assert abs(noisy[:, 2].std() - NOISE_SPREAD) < 0.02


def test_the_undisturbed_expert_cannot_stand_in_for_one_with_noise():
    change = Perturbation("noise", {"probability": 0.45})
    spec = TABLETOP.spec("pick", 1_000_000, Condition("trained", perturbations=(change,)))
    with pytest.raises(UserError, match="Nobody here carries out the perturbation 'noise'"):
        next(rollout(fake_environment.FakeEnvironment(), ExpertAgent(), spec))


def test_noise_may_hold_for_some_steps_only():
    always = Perturbation("noise", {"probability": 1.0}, first_step=2, last_step=3)
    spec = TABLETOP.spec("pick", 1_000_000, Condition("trained", perturbations=(always,)))
    agent = Demonstrator(fake_environment.fake_plan, spec, np.random.default_rng(0))
    assert len(list(rollout(fake_environment.FakeEnvironment(), agent, spec))) > 5
    assert agent.noisy == [step in (2, 3) for step in range(len(agent.noisy))]
