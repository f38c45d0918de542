"""The scripted expert of the tabletop suite as an agent; it reads the simulator's true state."""

from typing import Final

from vlm4vla.action import ActionSpec
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Array, Observation
from vlm4vla.errors import UserError
from vlm4vla.language.reading import read_in_scene
from vlm4vla.language.things import Thing
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import goals_among
from vlm4vla.suites.tabletop.types import State
from vlm4vla.suites.tabletop.vocabulary import colour_of, kind_of

CHUNK: Final = 4
"""Actions that the expert plans at once."""

EXPERT: Final = AgentId("expert", "expert", "expert")


class ExpertAgent:
    """The scripted expert, which understands the suite's sentences and nothing else.

    See `vlm4vla.core.agent.Agent` and `vlm4vla.core.agent.PrivilegedAgent`.
    """

    identity: AgentId = EXPERT
    replan_every: int = CHUNK
    cameras: tuple[str, ...] = ()
    action: ActionSpec | None = None

    def __init__(self) -> None:
        self._environment: Environment | None = None
        self._goal: Goal | None = None

    def watch(self, environment: Environment) -> None:
        """See `PrivilegedAgent.watch`."""
        self._environment = environment

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`."""
        state = self._state()
        goals = goals_among(state.names[: state.movable], state.names[state.movable :])
        reading = read_in_scene(
            instruction, things_of(state), [(goal.task, goal.object, goal.target) for goal in goals]
        )
        if reading.goal is None:
            raise UserError(
                f"The scripted expert does not understand {instruction!r} in this scene.",
                "Name an object and a place of the scene, as the suggested instructions do.",
            )
        self._goal = Goal(*reading.goal)

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`; four actions of (7,)."""
        if self._goal is None:
            raise UserError("The expert has no instruction.", "Call reset() before act().")
        return expert.plan(self._state(), self._goal, CHUNK)

    def _state(self) -> State:
        if self._environment is None:
            raise UserError("The expert has no environment.", "Call watch() first.")
        state: State = self._environment.privileged()
        return state


def things_of(state: State) -> tuple[Thing, ...]:
    """Everything on the table as sentences speak of it."""
    return tuple(
        Thing(name, colour_of(name), kind_of(name), float(x), float(y), index < state.movable)
        for index, (name, (x, y, _)) in enumerate(zip(state.names, state.positions, strict=True))
    )
