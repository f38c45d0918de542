"""An agent in a process of its own, behind the same interface.

Several policies in one process would share its threads' number and Python's lock. A child of its
own has one core to itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from vlm4vla.action import ActionSpec
from vlm4vla.core.agent import Agent, PerturbableAgent
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Array, Observation
from vlm4vla.workers.child import Child

_REMEDY: Final = "Run the same command again: it goes on where it stopped."


class _Served:
    """An agent as its child process offers it."""

    def __init__(self, agent: Agent) -> None:
        self.identity, self.replan_every, self.cameras, self.action = (
            agent.identity,
            agent.replan_every,
            agent.cameras,
            agent.action,
        )
        self.reset, self.act = agent.reset, agent.act
        self.perturbations: tuple[str, ...] = tuple(getattr(agent, "perturbations", ()))
        if isinstance(agent, PerturbableAgent):
            self.prepare = agent.prepare


def _serve(make: Callable[[], Agent]) -> _Served:
    return _Served(make())


class AgentProcess:
    """One agent in a child process; see `vlm4vla.core.agent.Agent`.

    Args:
        make: called in the child; a module-level function or a partial of one.

    Raises:
        UserError: the agent could not be made; the message says why.
    """

    def __init__(self, make: Callable[[], Agent]) -> None:
        self._child = Child(partial(_serve, make), "policy", _REMEDY)
        self.identity: AgentId = self._child.get("identity")
        self.replan_every: int = self._child.get("replan_every")
        self.cameras: tuple[str, ...] = self._child.get("cameras")
        self.action: ActionSpec | None = self._child.get("action")
        self.perturbations: tuple[str, ...] = self._child.get("perturbations")

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def prepare(self, spec: EpisodeSpec) -> None:
        """See `PerturbableAgent.prepare`."""
        if self.perturbations:
            self._child.call("prepare", spec)

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        self._child.call("reset", instruction)

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`."""
        chunk: Array = self._child.call("act", observation)
        return chunk

    def close(self) -> None:
        """Ends the child; the agent cannot be used afterwards."""
        self._child.close()
