"""Agents: whoever turns observations and an instruction into chunks of actions."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

from vlm4vla.action import ActionSpec
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Array, Observation


class Agent(Protocol):
    """An agent: the interface that policies and experts share.

    Attributes:
        identity: who it is.
        replan_every: actions of a chunk carried out before the next inference, as it was made.
        cameras: names of the cameras that it must see at every inference.
        action: what its actions mean; None for one whose commands are the environment's own, as an
            expert's are.
    """

    @property
    def identity(self) -> AgentId:
        """Who it is."""
        ...

    @property
    def replan_every(self) -> int:
        """Actions of a chunk carried out before the next inference, as it was made."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that it must see at every inference."""
        ...

    @property
    def action(self) -> ActionSpec | None:
        """What its actions mean; None for one whose commands are the environment's own."""
        ...

    def reset(self, instruction: str) -> None:
        """Starts an episode.

        Raises:
            UserError: the agent cannot follow this instruction.
        """
        ...

    def act(self, observation: Observation) -> Array:
        """The next chunk: (n, d) float32 in the environment's units, n at least 1."""
        ...


class AgentLayer:
    """An agent before another one, with that one's identity; what passes between is a subclass's.

    Args:
        agent: who acts.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    @property
    def identity(self) -> AgentId:
        """See `Agent.identity`: a layer is no agent of its own."""
        return self._agent.identity

    @property
    def replan_every(self) -> int:
        """See `Agent.replan_every`."""
        return self._agent.replan_every

    @property
    def cameras(self) -> tuple[str, ...]:
        """See `Agent.cameras`."""
        return self._agent.cameras

    @property
    def action(self) -> ActionSpec | None:
        """See `Agent.action`."""
        return self._agent.action


@runtime_checkable
class PrivilegedAgent(Protocol):
    """An agent that may ask the environment for its true state: an expert, never a policy."""

    def watch(self, environment: Environment) -> None:
        """Takes the environment whose true state it reads from now on."""
        ...


@runtime_checkable
class PerturbableAgent(Protocol):
    """An agent that carries out perturbations of what it sees, is told, or computes."""

    @property
    def perturbations(self) -> Collection[str]:
        """Names of the perturbations that it carries out."""
        ...

    def prepare(self, spec: EpisodeSpec) -> None:
        """Takes the specification of the next episode, before anything else happens in it.

        Raises:
            UserError: one of its perturbations is impossible here.
        """
        ...
