"""The five tasks: when one has succeeded, and what happened on the way.

Everything here is a function of the simulator's true state; nothing looks at a picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.observation import Array
from vlm4vla.registry import Registry
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import CONTAINER_RADIUS, ZONE_HALF_SIZE
from vlm4vla.suites.tabletop.types import Event, State
from vlm4vla.suites.tabletop.vocabulary import kind_of

TIME_LIMIT: Final[dict[Task, int]] = {
    "reach": 60,
    "pick": 60,
    "push": 80,
    "place": 100,
    "stack": 100,
}
"""Control steps (20 a second) until an episode is over."""

LIFT_HEIGHT: Final = 0.05
WRONG_DISPLACEMENT: Final = 0.02
STILL: Final = 0.05
TOPPLED: Final = np.cos(np.radians(30.0))


@dataclass(frozen=True)
class Facts:
    """What is true after a control step.

    Attributes:
        state: poses and finger opening.
        touched: names of the movable objects that the hand or a finger is in contact with.
        held: the movable object in contact with both fingers, or None.
        start: (m, 3) where the movable objects stood when the episode began, metres.
        speeds: (m,) speed of the movable objects' centres, metres a second.
        uprightness: (m,) cosine between an object's own axis and up; 1 for balls.
    """

    state: State
    touched: frozenset[str]
    held: str | None
    start: Array
    speeds: Array
    uprightness: Array

    def index(self, name: str) -> int:
        """Row of a movable object in `start`, `speeds` and `uprightness`."""
        return self.state.names.index(name)

    def settled(self, name: str) -> bool:
        """The object is let go and slower than 5 cm a second."""
        return name not in self.touched and bool(self.speeds[self.index(name)] < STILL)


Condition = Callable[[Facts, Goal], bool]
CONDITIONS: Final[Registry[Condition]] = Registry("task")


@CONDITIONS.register("reach")
def reach(facts: Facts, goal: Goal) -> bool:
    """The hand or a finger is in contact with the named object."""
    return goal.object in facts.touched


@CONDITIONS.register("pick")
def pick(facts: Facts, goal: Goal) -> bool:
    """Both fingers hold the named object, at least 5 cm above where it started."""
    rise = facts.state.position(goal.object)[2] - facts.start[facts.index(goal.object)][2]
    return facts.held == goal.object and bool(rise >= LIFT_HEIGHT)


@CONDITIONS.register("push")
def push(facts: Facts, goal: Goal) -> bool:
    """The named object's centre is over the named zone, and it stands on the table, not held."""
    assert goal.target is not None
    offset = facts.state.position(goal.object) - facts.state.position(goal.target)
    height = facts.state.size(goal.object) / 2
    inside = abs(offset[0]) <= ZONE_HALF_SIZE[0] and abs(offset[1]) <= ZONE_HALF_SIZE[1]
    on_table = abs(facts.state.position(goal.object)[2] - height) < 0.01
    return bool(inside and on_table and facts.held != goal.object)


@CONDITIONS.register("place")
def place(facts: Facts, goal: Goal) -> bool:
    """The named object rests in or on the named container.

    Let go, still, its centre within the container's circle and no higher above the container than
    its own half height plus 1.5 cm.
    """
    assert goal.target is not None
    offset = facts.state.position(goal.object) - facts.state.position(goal.target)
    within = np.hypot(offset[0], offset[1]) < CONTAINER_RADIUS - 0.005
    low = 0.0 < offset[2] < facts.state.size(goal.object) / 2 + 0.015
    return bool(within and low) and facts.settled(goal.object)


@CONDITIONS.register("stack")
def stack(facts: Facts, goal: Goal) -> bool:
    """The named object rests on the other.

    Let go, still, centres within half a width of each other seen from above, and the height
    difference right to 6 mm.
    """
    assert goal.target is not None
    offset = facts.state.position(goal.object) - facts.state.position(goal.target)
    apart = (facts.state.size(goal.object) + facts.state.size(goal.target)) / 2
    over = np.hypot(offset[0], offset[1]) < facts.state.size(goal.target) / 2
    return bool(over and abs(offset[2] - apart) < 0.006) and facts.settled(goal.object)


def succeeded(facts: Facts, goal: Goal) -> bool:
    """Whether the goal's condition holds."""
    return CONDITIONS.get(goal.task)(facts, goal)


class EventTracker:
    """Turns the facts of successive steps into events; one tracker an episode and goal.

    `reached`: first contact with the named object. `grasped`: both fingers hold it. `wrong_object`:
    another movable object was held, or stands more than 2 cm from where it started (the base of a
    stack may be touched, but not held). `dropped`: the named object was let go in the air, away
    from its target. `knocked`: an object lies more than 30 degrees from upright, or the base of a
    stack moved more than 2 cm. `timeout`: the time limit is up. `success`: the condition holds.
    All but `dropped` are told once.
    """

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self._told: set[Event] = set()
        self._carried = False

    def update(self, facts: Facts, step: int) -> tuple[Event, ...]:
        """Events of this step.

        Args:
            facts: what is true now.
            step: control steps since the episode began.
        """
        goal = self.goal
        happened: dict[Event, bool] = {
            "reached": goal.object in facts.touched,
            "grasped": facts.held == goal.object,
            "wrong_object": self._wrong_object(facts),
            "knocked": self._knocked(facts),
            "timeout": step >= TIME_LIMIT[goal.task] and not succeeded(facts, goal),
            "success": succeeded(facts, goal),
        }
        events = [name for name, value in happened.items() if value and name not in self._told]
        self._told.update(events)
        if self._carried and goal.object not in facts.touched and self._in_the_air(facts):
            events.append("dropped")
        self._carried = facts.held == goal.object
        return tuple(events)

    def _moved(self, facts: Facts) -> NDArray[np.bool_]:
        movable = facts.state.positions[: facts.state.movable]
        return np.linalg.norm(movable - facts.start, axis=1) > WRONG_DISPLACEMENT

    def _wrong_object(self, facts: Facts) -> bool:
        if facts.held not in (None, self.goal.object):
            return True
        named = (self.goal.object, self.goal.target)
        others = [name not in named for name in facts.state.names[: facts.state.movable]]
        return bool(np.any(self._moved(facts) & np.array(others)))

    def _knocked(self, facts: Facts) -> bool:
        tipped = (facts.uprightness < TOPPLED) & (
            np.array(facts.state.names[: facts.state.movable]) != facts.held
        )
        base = self.goal.target if self.goal.task == "stack" else None
        return bool(np.any(tipped)) or (
            base is not None and bool(self._moved(facts)[facts.index(base)])
        )

    def _in_the_air(self, facts: Facts) -> bool:
        position = facts.state.position(self.goal.object)
        if self.goal.target is not None and kind_of(self.goal.target) != "zone":
            offset = position - facts.state.position(self.goal.target)
            if np.hypot(offset[0], offset[1]) < CONTAINER_RADIUS:
                return False
        return bool(position[2] > facts.state.size(self.goal.object) / 2 + 0.015)


UNJUDGED_LIMIT: Final = max(TIME_LIMIT.values())
"""Control steps until an episode without a goal is over."""


def limit_of(goal: Goal | None) -> int:
    """Control steps until an episode about a goal, or about none, is over."""
    return TIME_LIMIT[goal.task] if goal else UNJUDGED_LIMIT


class Witness:
    """Tells what happened where nothing was asked for that could be judged.

    `touched X`: first contact with a movable object. `lifted X`: both fingers hold it 5 cm above
    where it started. `moved X`: it stands more than 2 cm from where it started. `timeout`: the time
    is up. Each is told once.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def update(self, facts: Facts, step: int) -> tuple[str, ...]:
        """Events of this step.

        Args:
            facts: what is true now.
            step: control steps since the episode began.
        """
        names = facts.state.names[: facts.state.movable]
        away = facts.state.positions[: facts.state.movable] - facts.start
        moved = np.linalg.norm(away, axis=1) > WRONG_DISPLACEMENT
        happened: dict[str, bool] = {}
        for index, name in enumerate(names):
            happened[f"touched {name}"] = name in facts.touched
            lifted = facts.held == name and away[index, 2] >= LIFT_HEIGHT
            happened[f"lifted {name}"] = bool(lifted)
            happened[f"moved {name}"] = bool(moved[index])
        happened["timeout"] = step >= UNJUDGED_LIMIT
        events = [name for name, value in happened.items() if value and name not in self._told]
        self._told.update(events)
        return tuple(events)
