"""A policy as an agent: it sees the picture and the sentence, nothing else."""

from pathlib import Path

import torch

from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Array, Observation
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy


class PolicyAgent:
    """A policy; see `vlm4vla.core.agent.Agent`. Several agents, in several threads, may share one.

    Args:
        policy: who acts.
        identity: who it is.
        camera: the camera whose picture it sees.
    """

    def __init__(self, policy: Policy, identity: AgentId, camera: str = "policy") -> None:
        self.policy = policy
        self.identity = identity
        self.cameras = (camera,)
        self.replan_every = policy.spec.execute
        self.action = policy.spec
        self._instruction = ""

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._instruction = instruction

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        image = observation.images[self.cameras[0]]
        return self.policy.act(image[None], [self._instruction])[0]


def load_agent(checkpoint: Path, device: str | None = None) -> PolicyAgent:
    """An agent from a checkpoint folder.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    identity = AgentId("policy", checkpoint_hash(checkpoint), checkpoint.name)
    return PolicyAgent(Policy.from_pretrained(checkpoint, device), identity)


def single_threaded_agent(checkpoint: Path) -> PolicyAgent:
    """A policy that uses one thread of this process; the setting is the whole process's.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    torch.set_num_threads(1)
    return load_agent(checkpoint)
