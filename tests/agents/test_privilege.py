"""What an agent may see is a type: nobody but an expert ever holds the simulator's true state."""

import importlib
import inspect
import pickle
import pickletools
import pkgutil
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tests.core.toy_suite import TOY, ToyAgent, ToyEnvironment
from vlm4vla import agents
from vlm4vla.action import tiny
from vlm4vla.agents.batched import BatchedAgent, Batcher
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.agents.policy import PolicyAgent
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.core.agent import PrivilegedAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.core.rollout import rollout
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP

WHO = AgentId("policy", "0123", "stand-in")


class Network:
    """Stands in for a policy: goes where its picture is bright, and keeps what it was given."""

    spec = tiny()

    def __init__(self) -> None:
        self.given: list[tuple[Any, Any]] = []

    def act(self, images, instructions):
        self.given.append((images, instructions))
        actions = np.zeros((len(images), 4, 7), np.float32)
        actions[..., 0] = (images.mean(axis=(1, 2, 3)) / 255)[:, None]
        return actions


def unprivileged() -> PolicyAgent:
    """Module-level, so that a child process can make it."""
    return PolicyAgent(Network(), WHO)


MAKERS: dict[type, Callable[[], Any]] = {
    PolicyAgent: unprivileged,
    BatchedAgent: lambda: BatchedAgent(Batcher(Network().act, len, rows=2), WHO, tiny()),
    AgentProcess: lambda: AgentProcess(unprivileged),
    ExpertAgent: ExpertAgent,
}
PRIVILEGED = {ExpertAgent}


def agent_classes() -> set[type]:
    """Every class in `vlm4vla.agents` that acts."""
    found = set()
    for module in pkgutil.walk_packages(agents.__path__, f"{agents.__name__}."):
        for _, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if one.__module__ == module.name and hasattr(one, "act") and hasattr(one, "reset"):
                found.add(one)
    return found


def test_every_agent_is_looked_at_here_and_only_experts_are_privileged():
    assert agent_classes() == set(MAKERS)
    assert {one for one in MAKERS if issubclass(one, PrivilegedAgent)} == PRIVILEGED


def test_an_observation_has_no_room_for_truth():
    assert [field.name for field in fields(Observation)] == ["step", "images", "proprio"]


class Guarded:
    """An environment that tells the truth, but remembers that it was asked for it."""

    def __init__(self, environment):
        self._environment = environment
        self.perturbations, self.action = environment.perturbations, environment.action
        self.reset, self.step = environment.reset, environment.step
        self.truths = 0

    def privileged(self):
        self.truths += 1
        return self._environment.privileged()

    def segmentation(self):
        self.truths += 1
        return self._environment.segmentation()


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.__name__)
def test_agents_act_on_step_pictures_and_proprioception_alone(kind, environment, monkeypatch):
    seen: list[Observation] = []
    act = kind.act

    def noticed(self, observation):
        seen.append(observation)
        return act(self, observation)

    monkeypatch.setattr(kind, "act", noticed)
    agent, guarded = MAKERS[kind](), Guarded(environment)
    assert isinstance(agent, PrivilegedAgent) == (kind in PRIVILEGED)
    spec = TABLETOP.spec("pick", 3, Condition(max_steps=8))
    steps = list(rollout(guarded, agent, spec))
    assert len(steps) == 9 and len(seen) == 2
    assert (guarded.truths > 0) == (kind in PRIVILEGED)
    for observation in seen:
        assert type(observation) is Observation
        assert set(vars(observation)) == {"step", "images", "proprio"}
        assert type(observation.step) is int
        assert set(observation.images) == (set() if kind in PRIVILEGED else {"policy"})
        for image in observation.images.values():
            assert type(image) is np.ndarray
            assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
        # The robot's own: finger tips (3) and finger opening.
        assert type(observation.proprio) is np.ndarray
        assert (observation.proprio.shape, observation.proprio.dtype) == ((4,), np.float32)
    if kind is AgentProcess:
        agent.close()


class Spied(ToyAgent):
    """Notes everything that is asked of it and handed to it."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[tuple[str, tuple[Any, ...]]] = []

    def reset(self, *arguments):
        self.handed.append(("reset", arguments))
        super().reset(*arguments)

    def act(self, *arguments):
        self.handed.append(("act", arguments))
        return super().act(*arguments)

    def __setattr__(self, name, value):
        assert not isinstance(value, ToyEnvironment)
        super().__setattr__(name, value)


def test_the_rollout_hands_over_a_sentence_and_observations_and_nothing_else():
    agent = Spied()
    list(rollout(ToyEnvironment(), agent, TOY.spec("go", 3, Condition())))
    (first, arguments), *rest = agent.handed
    assert (first, arguments) == ("reset", ("go to the red corner",))
    assert len(rest) > 2
    for method, arguments in rest:
        assert method == "act" and [type(one) for one in arguments] == [Observation]


def test_a_policy_is_given_its_picture_and_its_sentence(environment):
    network = Network()
    spec = TABLETOP.spec("pick", 3, Condition(max_steps=4))
    list(rollout(environment, PolicyAgent(network, WHO), spec, cameras=["view"]))
    [(images, instructions)] = network.given
    assert (images.shape, instructions) == ((1, 128, 128, 3), [spec.instruction])


def ours(message: Any) -> set[str]:
    """What a pickled message names of this project."""
    strings = [
        argument
        for _, argument, _ in pickletools.genops(pickle.dumps(message))
        if isinstance(argument, str)
    ]
    return {one for one in strings if one.startswith("vlm4vla")}


def test_no_state_crosses_to_an_agents_process(environment, monkeypatch):
    agent = AgentProcess(unprivileged)
    sent: list[Any] = []
    send = agent._child._connection.send
    monkeypatch.setattr(agent._child._connection, "send", lambda one: (sent.append(one), send(one)))
    spec = TABLETOP.spec("pick", 3, Condition(max_steps=8))
    list(rollout(environment, agent, spec))
    agent.close()
    assert [message[0] for message in sent] == ["reset", "act", "act"]
    assert ours(sent[0]) == set()
    for message in sent[1:]:
        assert ours(message) == {"vlm4vla.core.observation"}
    assert ours(environment.privileged()) == {"vlm4vla.suites.tabletop.types"}


def test_an_expert_in_a_process_of_its_own_has_nothing_to_look_at():
    agent = AgentProcess(ExpertAgent)
    assert not isinstance(agent, PrivilegedAgent)
    with pytest.raises(UserError, match=r"no environment.*watch\(\) first"):
        agent.reset("pick up the red cube")
    agent.close()
