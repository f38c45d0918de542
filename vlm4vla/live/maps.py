"""Live maps: what a policy's action comes from, cell by cell, while its episode runs.

Torch is imported only when a map is made.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from vlm4vla.attribution.worth import worth
from vlm4vla.core.agent import Agent, AgentLayer
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError

if TYPE_CHECKING:
    from vlm4vla.attribution.inputs import Scores
    from vlm4vla.attribution.score import Explained

METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "occlusion": "occlusion, each cell in turn in the mean colour",
        "gradient": "gradient times input at the vision tokens",
    }
)
"""Methods that are done before the next inference, of `vlm4vla.attribution.names.METHODS`."""

TARGET: Final = "displacement"
"""How far the first action goes its own way, millimetres."""

EXPERT_HAS_NONE: Final = (
    "The scripted expert reads the simulator's positions, not the picture, so it has no map."
)
_NOT_HERE: Final = "Who acts here is no policy that could be asked, so there is no map."

_MOST_VISITORS: Final = 1_000


@dataclass(frozen=True)
class LiveMap:
    """A map of one inference.

    Attributes:
        step: the control step that the inference was made at.
        picture: (h, w, 3) uint8 RGB, what the policy saw then, whatever was changed about it.
        method: one of `METHODS`.
        scores: (8, 8) millimetres, positive where a cell carries the action on its way.
        most: millimetres, the largest size of a score by this method in the episode so far.
        milliseconds: what making it took.
        worth: what is measured of such maps, for people.
    """

    step: int
    picture: Image
    method: str
    scores: "Scores"
    most: float
    milliseconds: float
    worth: str


@dataclass(frozen=True)
class NoMap:
    """Why there is no map, as a sentence."""

    reason: str


class MapWishes:
    """Which map each visitor wants. May be shared by threads; the newest visitors are kept."""

    def __init__(self) -> None:
        self._wanted: dict[str, str] = {}
        self._lock = threading.Lock()

    def choose(self, visitor: str, method: str) -> None:
        """Wants a map by one of `METHODS` from now on, or none: anything else."""
        with self._lock:
            self._wanted.pop(visitor, None)
            if method in METHODS:
                self._wanted[visitor] = method
            while len(self._wanted) > _MOST_VISITORS:
                self._wanted.pop(next(iter(self._wanted)))

    def chosen(self, visitor: str) -> str:
        """The method that a visitor wants, "" for no map."""
        with self._lock:
            return self._wanted.get(visitor, "")


class LiveMaps:
    """The maps of one episode, made from what its policy was asked last.

    A map is made when it is shown, not while the policy thinks, so the time of an inference that
    an episode keeps is the policy's own.

    Attributes:
        agent: who acts in the episode; what it is asked is noted.

    Args:
        agent: who is to act.
        wishes: what visitors want; None for no maps.
        visitor: whose wish counts.
    """

    def __init__(self, agent: Agent, wishes: MapWishes | None, visitor: str) -> None:
        self.agent = agent
        self._noting: _Noting | None = None
        self._wishes, self._visitor = wishes, visitor
        self._made: LiveMap | NoMap | None = None
        self._made_of: tuple[str, int] | None = None
        self._most: dict[str, float] = {}
        if wishes and isinstance(agent, _Explainable):
            self.agent = self._noting = _Noting(agent)

    def now(self) -> LiveMap | NoMap | None:
        """The map of the last inference, or why there is none; None if nobody wants one."""
        method = self._wishes.chosen(self._visitor) if self._wishes else ""
        if not method:
            return None
        if self._noting is None:
            expert = self.agent.identity.kind == "expert"
            return NoMap(EXPERT_HAS_NONE if expert else _NOT_HERE)
        asked = self._noting.asked
        if asked is None:
            return None
        if self._made_of != (method, asked.step):
            self._made, self._made_of = self._make(asked, method), (method, asked.step)
        return self._made

    def _make(self, asked: "_Asked", method: str) -> LiveMap | NoMap:
        assert self._noting is not None
        began = time.perf_counter()
        try:
            scores = live_scores(self._noting.policy, asked.picture, asked.instruction, method)
        except UserError as error:
            return NoMap(str(error))
        took = (time.perf_counter() - began) * 1e3
        most = self._most[method] = max(self._most.get(method, 0.0), float(abs(scores).max()))
        measured = worth(self.agent.identity.digest, method, TARGET)
        return LiveMap(asked.step, asked.picture, method, scores, most, took, measured)


def live_scores(policy: "Explained", picture: Image, instruction: str, method: str) -> "Scores":
    """The map of one inference: (8, 8) millimetres.

    Args:
        policy: who is asked.
        picture: (H, W, 3) uint8 RGB, what it saw.
        instruction: what it was told.
        method: one of `METHODS`.

    Raises:
        UserError: the method cannot explain this policy.
    """
    # They take seconds: torch.
    from vlm4vla.attribution import methods
    from vlm4vla.attribution.inputs import Question
    from vlm4vla.attribution.target import TARGETS

    question = Question(picture, instruction)
    return methods.METHODS[method](policy, question, TARGETS[TARGET]).scores


@runtime_checkable
class _Explainable(Protocol):
    """An agent whose policy can be asked again: `vlm4vla.agents.policy.PolicyAgent`."""

    policy: "Explained"


@dataclass(frozen=True)
class _Asked:
    step: int
    picture: Image
    instruction: str


class _Noting(AgentLayer):
    """A policy's agent, and what it was asked last; see `Agent`."""

    def __init__(self, agent: Agent) -> None:
        assert isinstance(agent, _Explainable)
        super().__init__(agent)
        self.policy = agent.policy
        self.asked: _Asked | None = None
        self._instruction = ""

    def reset(self, instruction: str) -> None:
        self._instruction = instruction
        self._agent.reset(instruction)

    def act(self, observation: Observation) -> Array:
        picture = observation.images[self.cameras[0]]
        self.asked = _Asked(observation.step, picture, self._instruction)
        return self._agent.act(observation)
