import os
import signal
from functools import partial

import numpy as np
import psutil
import pytest
import torch

from vlm4vla.action import tiny
from vlm4vla.agents.policy import load_agent, single_threaded_agent
from vlm4vla.agents.remote import AgentProcess
from vlm4vla.agents.workers import policy_workers
from vlm4vla.core.agent import PrivilegedAgent
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.train.objectives.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 80, "language_layers": 3, "language_width": 80}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "untrained"
    Policy.from_vlm(make_backbone(**SIZES), query_init="embedding", device="cpu").save_pretrained(
        folder
    )
    return folder


def observation():
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    return Observation(0, {"policy": image}, np.zeros(4, np.float32))


def test_every_worker_has_a_policy_in_a_process_of_its_own(checkpoint, monkeypatch):
    monkeypatch.setattr("vlm4vla.agents.workers.accelerator", lambda: "cpu")
    with policy_workers(checkpoint) as make:
        first, second = make(), make()
        assert len({first.pid, second.pid, os.getpid()}) == 3
        for agent in (first, second):
            agent.reset("lift the red cube")
        chunks = [agent.act(observation()) for agent in (first, second, first)]
        assert chunks[0].shape == (4, 7) and np.array_equal(chunks[0], chunks[1])
        assert np.array_equal(chunks[0], chunks[2])
        assert first.identity == AgentId("policy", checkpoint_hash(checkpoint))
        assert (first.identity.name, first.replan_every, first.cameras) == (
            "untrained",
            4,
            ("policy",),
        )
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"process ended \(signal SIGKILL\)"):
            second.act(observation())
    assert not psutil.pid_exists(first.pid)


def test_on_an_accelerator_every_worker_asks_the_same_policy(checkpoint, monkeypatch):
    monkeypatch.setattr("vlm4vla.agents.workers.accelerator", lambda: "cuda")
    alone = load_agent(checkpoint, "cpu")
    alone.reset("lift the red cube")
    monkeypatch.setattr("vlm4vla.agents.workers.load_agent", lambda folder: alone)
    with policy_workers(checkpoint) as make:
        first, second = make(), make()
        for agent in (first, second):
            agent.reset("lift the red cube")
            assert agent.identity == alone.identity
            assert agent.replan_every == alone.replan_every
            assert agent.action == alone.action
            np.testing.assert_allclose(
                agent.act(observation()), alone.act(observation()), atol=1e-4
            )
    with pytest.raises(UserError, match="shut down"):
        first.act(observation())


def test_a_workers_policy_computes_with_one_thread(checkpoint):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        single_threaded_agent(checkpoint)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


class Refusing:
    """Stands in for a policy that cannot follow a sentence."""

    identity = AgentId("policy", "0123", "refusing")
    replan_every = 3
    cameras = ("top", "side")
    action = tiny(execute=3)

    def reset(self, instruction):
        raise UserError(f"Cannot follow {instruction!r}.", "Say it otherwise.")

    def act(self, observation):
        return np.full((2, 7), observation.step, np.float32)


def test_what_the_agent_says_of_itself_and_its_refusals_cross_over():
    agent = AgentProcess(Refusing)
    assert (agent.identity, agent.identity.name) == (Refusing.identity, "refusing")
    assert (agent.replan_every, agent.cameras) == (3, ("top", "side"))
    assert agent.action == Refusing.action
    assert not isinstance(agent, PrivilegedAgent)
    with pytest.raises(UserError, match=r"Cannot follow 'sing'\. Say it otherwise\."):
        agent.reset("sing")
    seen = Observation(6, {}, np.zeros(0, np.float32))
    np.testing.assert_array_equal(agent.act(seen), np.full((2, 7), 6))
    agent.close()
    assert not psutil.pid_exists(agent.pid)


def test_a_checkpoint_that_is_missing_is_told_where_it_is_wanted(tmp_path):
    with pytest.raises(UserError, match="There is no checkpoint folder"):
        AgentProcess(partial(single_threaded_agent, tmp_path / "none"))
