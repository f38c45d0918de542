"""Scripted experts: one control law a task that answers for any state.

The law reads only what a picture could show (where the finger tips, the objects and the places
are, and how far the fingers are open) and keeps no memory, so it can label states that somebody
else brought about. Instead of phases it has funnels: the height that the hand aims at is a
continuous function of how far it still has to go sideways.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from vlm4vla.action import SUITE_CAPS
from vlm4vla.core.observation import Array
from vlm4vla.suites.tabletop import controller
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import (
    BOWL_RIM,
    CONTAINER_RADIUS,
    FLOOR_THICKNESS,
    PLATE_RIM,
    ZONE_HALF_SIZE,
)
from vlm4vla.suites.tabletop.types import State
from vlm4vla.suites.tabletop.vocabulary import kind_of

ACTION_CAP: Final = SUITE_CAPS[0]
"""Largest x, y or z of an action: 2.4 cm a step when repeated."""

TRAVEL_HEIGHT: Final = 0.080
"""Height of the finger tips at which open fingers pass over every object (metres)."""

CARRY_HEIGHT: Final = 0.105
"""Height of the finger tips at which a held object passes over every object (metres)."""

_GAIN: Final = 0.75
_OPEN: Final = 1.0
_CLOSED: Final = -1.0
_FUNNEL_SLOPE: Final = 5.0
_GRASP_TOLERANCE: Final = 0.009
_MAX_HALF_OPENING: Final = controller.MAX_OPENING / 2

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Situation:
    """What the control laws look at, in plain numbers: metres, world frame.

    Attributes:
        tip: centre between the finger tips.
        opening: distance between the fingers.
        thing: centre of the named object.
        size: its width.
        target: centre of the place or object it goes to, or None.
        target_size: width of that.
        target_kind: "zone", "plate", "bowl", a shape, or "" if there is none.
    """

    tip: Vector
    opening: float
    thing: Vector
    size: float
    target: Vector | None
    target_size: float
    target_kind: str

    @property
    def between(self) -> bool:
        """The object is between the fingers, whether or not they touch it."""
        dx, dy, dz = (self.thing[i] - self.tip[i] for i in range(3))
        return abs(dx) < 0.016 and abs(dy) < 0.016 and abs(dz) < 0.020

    @property
    def holding(self) -> bool:
        """The fingers have closed on the object."""
        return self.between and self.opening < self.size + 0.006


@dataclass(frozen=True)
class Command:
    """Where the finger tips should go next, and what the fingers should do."""

    aim: Vector
    gripper: float


def act(state: State, goal: Goal) -> Array:
    """The expert's next action.

    Args:
        state: the simulator's true state.
        goal: what to do.

    Returns:
        (7,) float32 in [-1, 1]; translations within `ACTION_CAP`, rotations 0, gripper +1 or -1.
    """
    return _action(_situation(state, goal), goal.task)


def plan(state: State, goal: Goal, n: int) -> Array:
    """The expert's next `n` actions, by following its own law on the measured controller.

    Args:
        state: the simulator's true state.
        goal: what to do.
        n: how many actions.

    Returns:
        (n, 7) float32, each row as `act` returns it.
    """
    situation = _situation(state, goal)
    velocity = np.asarray(state.velocity, dtype=np.float64)
    actions = np.empty((n, 7), dtype=np.float32)
    for row in range(n):
        actions[row] = _action(situation, goal.task)
        situation, velocity = _predict(situation, velocity, actions[row])
    return actions


def _situation(state: State, goal: Goal) -> Situation:
    target = None if goal.target is None else state.position(goal.target).tolist()
    return Situation(
        tip=tuple(state.tcp.tolist()),
        opening=state.opening,
        thing=tuple(state.position(goal.object).tolist()),
        size=state.size(goal.object),
        target=None if target is None else tuple(target),
        target_size=0.0 if goal.target is None else state.size(goal.target),
        target_kind="" if goal.target is None else kind_of(goal.target),
    )


def _action(now: Situation, task: Task) -> Array:
    command = _LAWS[task](now)
    step = [_GAIN * (command.aim[i] - now.tip[i]) / controller.METRES_PER_ACTION for i in range(3)]
    largest = max(abs(value) for value in step)
    scale = min(1.0, ACTION_CAP / largest) if largest > 0 else 1.0
    x, y, z = (value * scale for value in step)
    return np.array([x, y, z, 0.0, 0.0, 0.0, command.gripper], dtype=np.float32)


def _predict(now: Situation, velocity: np.ndarray, action: Array) -> tuple[Situation, np.ndarray]:
    """The situation one step later, if the controller answers as measured."""
    tip = np.array(now.tip)
    ahead, velocity = controller.respond(tip, velocity, action[:3].astype(np.float64))
    dx, dy, dz = (ahead - tip).tolist()
    opening = controller.next_opening(now.opening, float(action[6]))
    thing = now.thing
    if now.between and opening < now.size:
        opening = now.size
        thing = (thing[0] + dx, thing[1] + dy, thing[2] + dz)
    elif now.between or _caged(now):
        lag = max(0.0, opening / 2 - now.size / 2)
        y = min(max(thing[1], ahead[1] - lag), ahead[1] + lag)
        thing = (thing[0], y, _floor_height(now, thing))
    return replace(now, tip=tuple(ahead.tolist()), opening=opening, thing=thing), velocity


def _floor_height(now: Situation, thing: Vector) -> float:
    """Height of the object's centre where it comes to rest below `thing`."""
    if now.target is not None and now.target_kind != "zone" and _offset(now) < 0.03:
        return min(thing[2], _surface(now) + now.size / 2)
    return min(thing[2], now.size / 2)


def _surface(now: Situation) -> float:
    """Height of what the object is put down on."""
    assert now.target is not None
    if now.target_kind in ("plate", "bowl"):
        return now.target[2] + FLOOR_THICKNESS
    return now.target[2] + now.target_size / 2


def _offset(now: Situation) -> float:
    """Distance of the object from its target, seen from above."""
    assert now.target is not None
    return math.hypot(now.target[0] - now.thing[0], now.target[1] - now.thing[1])


def _funnel(error: float, low: float, high: float, tolerance: float) -> float:
    """Height to aim at: `low` within `tolerance` sideways, rising to `high` further out."""
    return min(high, low + _FUNNEL_SLOPE * max(0.0, error - tolerance))


def _through(now: Situation, goal: Vector, height: float, floor: float) -> Vector:
    """A point towards `goal` that first rises to `height` when the hand is under it.

    Args:
        now: the situation.
        goal: where to go sideways; its z is not used.
        height: height to aim at.
        floor: how far below `height` sideways motion has stopped altogether.
    """
    sideways = min(1.0, max(0.0, 1.0 - (height - now.tip[2] - 0.01) / floor))
    return (
        now.tip[0] + sideways * (goal[0] - now.tip[0]),
        now.tip[1] + sideways * (goal[1] - now.tip[1]),
        height,
    )


def _grasp_height(now: Situation) -> float:
    return max(0.018, now.thing[2] - 0.002)


def _approach(now: Situation) -> Command:
    """Go over the object with open fingers, down around it, and close them."""
    low = _grasp_height(now)
    error = math.hypot(now.thing[0] - now.tip[0], now.thing[1] - now.tip[1])
    if error < _GRASP_TOLERANCE and now.tip[2] - low < 0.010 and now.opening > now.size - 0.004:
        return Command((now.thing[0], now.thing[1], low), _CLOSED)
    high = max(TRAVEL_HEIGHT, now.thing[2] + now.size / 2 + 0.03)
    # Fingers that are not open yet would land on the object.
    shut = min(1.0, max(0.0, (now.size + 0.025 - now.opening) / 0.02))
    height = max(_funnel(error, low, high, 0.006), low + shut * (high - low))
    if now.between:
        height = low
    return Command(_through(now, now.thing, height, 0.05), _OPEN)


def _reach(now: Situation) -> Command:
    return _approach(now)


def _pick(now: Situation) -> Command:
    if not now.holding:
        return _approach(now)
    return Command((now.tip[0], now.tip[1], now.tip[2] + 0.04), _CLOSED)


def _release_height(now: Situation) -> float:
    """Height of the finger tips at which the held object is let go."""
    hanging = now.thing[2] - now.tip[2]
    height = _surface(now) + now.size / 2 + 0.003 - hanging
    if now.target_kind == "bowl":
        # Opening fingers must stay above the rim.
        return max(height, BOWL_RIM + 0.019)
    if now.target_kind == "plate":
        return max(height, PLATE_RIM + 0.019)
    return height


def _deliver(now: Situation) -> Command:
    """Carry the object over its target, let go just above it, and rise."""
    assert now.target is not None
    offset = _offset(now)
    tolerance = 0.015 if now.target_kind in ("plate", "bowl") else 0.006
    aim = (
        now.tip[0] + now.target[0] - now.thing[0],
        now.tip[1] + now.target[1] - now.thing[1],
        0.0,
    )
    if now.holding:
        release = _release_height(now)
        if offset < tolerance + 0.003 and now.tip[2] - release < 0.006:
            return Command((now.tip[0], now.tip[1], release), _OPEN)
        height = _funnel(offset, release, max(CARRY_HEIGHT, release + 0.03), tolerance)
        return Command(_through(now, aim, height, 0.04), _CLOSED)
    over = CONTAINER_RADIUS - 0.005 if now.target_kind in ("plate", "bowl") else 0.024
    if offset < over and now.thing[2] > _surface(now):
        clear = now.opening > now.size + 0.012 or not now.between
        rise = 0.04 if clear else 0.0
        height = min(now.tip[2] + rise, max(now.tip[2], CARRY_HEIGHT + 0.05))
        return Command((now.tip[0], now.tip[1], height), _OPEN)
    return _approach(now)


def _caged(now: Situation) -> bool:
    """The object stands between open fingers that are low enough to push it."""
    dx, dy = now.thing[0] - now.tip[0], now.thing[1] - now.tip[1]
    room = _MAX_HALF_OPENING - now.size / 2 + 0.008
    return abs(dx) < 0.018 and abs(dy) < room and now.tip[2] < now.thing[2] + 0.022


def _push(now: Situation) -> Command:
    """Put open fingers around the object and push it sideways with the one behind."""
    assert now.target is not None
    low = 0.024
    remaining = now.target[1] - now.thing[1]
    if abs(remaining) < ZONE_HALF_SIZE[1] - 0.008:
        return Command((now.tip[0], now.tip[1], max(now.tip[2], TRAVEL_HEIGHT)), _OPEN)
    if _caged(now):
        depth = min(1.0, max(0.0, (now.thing[2] + 0.022 - now.tip[2]) / 0.012))
        ahead = math.copysign(min(0.05, abs(remaining) + 0.02), remaining)
        # Friction carries the object along: following every small offset would drag it away.
        aside = now.thing[0] - now.tip[0]
        aside = math.copysign(max(0.0, abs(aside) - 0.010), aside)
        return Command((now.tip[0] + aside, now.tip[1] + depth * ahead, low), _OPEN)
    error = math.hypot(now.thing[0] - now.tip[0], now.thing[1] - now.tip[1])
    height = _funnel(error, low, TRAVEL_HEIGHT, 0.006)
    shut = min(1.0, max(0.0, (now.size + 0.025 - now.opening) / 0.02))
    height = max(height, low + shut * (TRAVEL_HEIGHT - low))
    return Command(_through(now, now.thing, height, 0.05), _OPEN)


_LAWS: Final[dict[Task, Callable[[Situation], Command]]] = {
    "reach": _reach,
    "pick": _pick,
    "push": _push,
    "place": _deliver,
    "stack": _deliver,
}
