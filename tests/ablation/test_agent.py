"""An agent behind the layer that perturbs what it sees and is told."""

import threading

import numpy as np
import pytest

from tests.live.fake_simulators import FakeEnvironment
from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.agent import PrivilegedAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId
from vlm4vla.core.rollout import rollout
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS


class Noting:
    """Acts one action at a time and notes everything that it is given."""

    identity = AgentId("policy", "0123", "noting")
    replan_every = 1
    cameras = ("policy",)
    action = TABLETOP.action

    def __init__(self):
        self.told, self.seen = [], []

    def reset(self, instruction):
        self.told.append((len(self.seen), instruction))

    def act(self, observation):
        self.seen.append(observation)
        return np.zeros((1, 7), np.float32)


class World(FakeEnvironment):
    """Pictures tell the scene's seed and the step; a segmentation has the fingers above."""

    def __init__(self):
        gate = threading.Event()
        gate.set()
        super().__init__(gate, lasts=6)
        self.resets = []

    def reset(self, spec, cameras=()):
        self.seed = spec.seed
        self.resets.append(spec.seed)
        return super().reset(spec, cameras)

    def observe(self, cameras):
        seen = super().observe(cameras)
        for image in seen.observation.images.values():
            image += np.uint8(10 * self.seed)
        return seen

    def segmentation(self):
        shown = np.full((8, 8), BACKGROUND, np.int16)
        shown[:2] = FINGERS
        return shown


def play(*changes, task="pick", seed=3):
    agent, world = Noting(), World()
    spec = TABLETOP.spec(task, seed, Condition(perturbations=changes))
    list(rollout(world, PerturbedAgent(agent), spec))
    return agent, world, spec


def levels(agent):
    return [int(one.images["policy"][7, 7, 0]) for one in agent.seen]


def test_without_perturbations_nothing_changes():
    agent, _, spec = play()
    assert levels(agent) == [30, 31, 32, 33, 34, 35]
    assert agent.told == [(0, spec.instruction)]


def test_a_picture_is_perturbed_from_a_step_to_a_step():
    agent, *_ = play(perturbation("picture-blank", {"level": 200}, 2, 3))
    assert levels(agent) == [30, 31, 200, 200, 34, 35]


def test_a_sentence_is_changed_in_mid_run_and_back():
    agent, _, spec = play(perturbation("sentence-empty", {}, 2, 4))
    assert agent.told == [(0, spec.instruction), (2, ""), (5, spec.instruction)]
    # The agent is told again before it acts.
    assert [step.step for step in agent.seen] == [0, 1, 2, 3, 4, 5]


def test_the_picture_of_the_neighbouring_scene_never_moves():
    agent, world, _ = play(perturbation("picture-other"))
    # Seed 2 is the neighbour of 3, and its first picture is 20 everywhere.
    assert world.resets == [2, 3]
    assert levels(agent) == [20] * 6
    # Splits begin and end with even numbers, so neighbours are of one split.
    assert (99_999 ^ 1, 100_000 ^ 1, 199_999 ^ 1) == (99_998, 100_001, 199_998)


def test_what_is_painted_out_is_asked_of_the_environment_and_not_told_to_the_agent():
    agent, *_ = play(perturbation("picture-without", {"what": "gripper"}))
    assert levels(agent) == [30, 31, 32, 33, 34, 35]
    for seen in agent.seen:
        assert set(vars(seen)) == {"step", "images", "proprio"}
        # The fingers have the colour of the background, which is the same here.
        assert len(np.unique(seen.images["policy"])) == 1
    assert not isinstance(agent, PrivilegedAgent)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (perturbation("picture-without", {"what": "target"}), "target of .* cannot be painted out"),
        (perturbation("skip-head"), "Nobody here carries out the perturbation 'skip-head'"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_moves(change, why):
    world = World()
    spec = TABLETOP.spec("pick", 3, Condition(perturbations=(change,)))
    with pytest.raises(UserError, match=why):
        list(rollout(world, PerturbedAgent(Noting()), spec))
    assert world.resets == []


def test_it_is_the_agent_behind_it_to_everybody():
    agent = PerturbedAgent(Noting())
    assert (agent.identity, agent.replan_every, agent.cameras) == (
        Noting.identity,
        1,
        ("policy",),
    )
