"""The lanes of an episode: what happened, what was aimed at, and how the expert differs, by step.

T steps, k things on the table. Lengths of commands are those of one action as commanded, in
millimetres: an action of 1.0 commands 100 mm, as `vlm4vla.attribution.target` has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.episode import Episode, Event
from vlm4vla.core.observation import Array
from vlm4vla.inspection.states import states_of
from vlm4vla.suites.tabletop import controller, expert
from vlm4vla.suites.tabletop.changes import gone_at
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.suite import judged_goal, scene_of
from vlm4vla.suites.tabletop.types import State

COMMAND_MM: Final = 100.0
"""Millimetres that an action of 1.0 commands."""

AIMED: Final = 25.0
"""Degrees within which a motion is taken to go towards a thing."""

THERE: Final = 0.020
"""The finger tips are at a thing when they are this near to it, seen from above (metres)."""

_BELOW: Final = -1.0
"""Height in metres below which only what was taken away is."""

_STILL_MM: Final = 4.0
"""A command that is shorter than this, seen from above, has no direction."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Inference:
    """An inference: when, and where its chunk would have led.

    Attributes:
        step: the control step that it was made at.
        path: (n + 1, 3) the finger tips from there on if the whole chunk were carried out, by the
            measured controller; world frame, metres.
        executed: actions of it that were carried out.
        gaps: (m + 1,) metres between the path and where the finger tips were that many steps
            later, whoever moved them; m is n, or fewer where the episode ends before.
    """

    step: int
    path: Numbers
    executed: int
    gaps: Numbers


@dataclass(frozen=True)
class Follower:
    """A goal of the scene, and how far what was done is from what the expert would do for it.

    Attributes:
        goal: which.
        millimetres: (T,) between the commanded motions.
        fingers: (T,) whether both command the same of the fingers.
    """

    goal: Goal
    millimetres: Numbers
    fingers: NDArray[np.bool_]


@dataclass(frozen=True)
class Lanes:
    """The lanes of an episode.

    Attributes:
        steps: T.
        events: what happened.
        things: names of the k things, those that can be moved first.
        movable: how many of them can be moved.
        positions: (T + 1, k, 3) their centres, world frame, metres.
        tips: (T + 1, 3) between the finger tips, likewise.
        opening: (T + 1,) distance between the fingers, metres.
        commanded: (T, 3) commanded motion, millimetres.
        gripper: (T,) what was commanded of the fingers, above 0 for open.
        angles: (T, k) degrees between the commanded motion and the way to each thing, both seen
            from above; NaN where either has no direction, and for what is held.
        aims_at: (T,) index of the thing that the motion goes to, see `aim`; -1 for none.
        held: (T + 1,) index of the thing between closed fingers; -1 for none.
        inferences: in order.
        goals: what was done beside what the expert would do, for every goal of the scene; the one
            that was asked for comes first.
        asked: whether a goal was asked for; if not, no goal comes first.
    """

    steps: int
    events: tuple[Event, ...]
    things: tuple[str, ...]
    movable: int
    positions: Numbers
    tips: Numbers
    opening: Numbers
    commanded: Numbers
    gripper: Numbers
    angles: Numbers
    aims_at: NDArray[np.int64]
    held: NDArray[np.int64]
    inferences: tuple[Inference, ...]
    goals: tuple[Follower, ...]
    asked: bool

    @property
    def expert(self) -> Follower | None:
        """What was done beside what the expert would do; None where nothing is judged."""
        return self.goals[0] if self.asked else None


def lanes_of(episode: Episode) -> Lanes:
    """The lanes of a stored episode, from its trace and actions; no simulator is needed.

    Raises:
        UserError: it is of another suite, or has no pose for every step.
    """
    states = states_of(episode)
    commanded = episode.actions[:, :3].astype(np.float64) * COMMAND_MM
    held = np.array([_held(state) for state in states])
    angles = np.array(
        [
            _angles(state, motion, within)
            for state, motion, within in zip(states[:-1], commanded, held[:-1], strict=True)
        ]
    ).reshape(episode.steps, len(states[0].names))
    tips = np.array([state.tcp for state in states], np.float64)
    positions = np.array([state.positions for state in states], np.float64)
    # For what is gone an expert would do nothing that could be compared.
    gone = gone_at(episode.spec.condition.perturbations, episode.steps)
    every = [
        goal for goal in scene_of(episode.spec).goals() if not gone & {goal.object, goal.target}
    ]
    asked = judged_goal(episode.spec)
    asked = asked if asked in every else None
    goals = ([asked] if asked else []) + [goal for goal in every if goal != asked]
    aims = [aim(row, commanded[i], tips[i], positions[i], held[i]) for i, row in enumerate(angles)]
    return Lanes(
        steps=episode.steps,
        events=episode.events,
        things=states[0].names,
        movable=states[0].movable,
        positions=positions,
        tips=tips,
        opening=np.array([state.opening for state in states]),
        commanded=commanded,
        gripper=episode.actions[:, 6].astype(np.float64),
        angles=angles,
        aims_at=np.array(aims, np.int64),
        held=held,
        inferences=_inferences(episode, states),
        goals=tuple(_beside(episode.actions, states[:-1], goal) for goal in goals),
        asked=asked is not None,
    )


def aim(angles: Numbers, motion: Numbers, tip: Numbers, positions: Numbers, held: int) -> int:
    """The thing that a motion goes to, or -1.

    It is the thing that the finger tips stand over (within `THERE`) if they are not sent away from
    it; else the one with the smallest angle, if that is within `AIMED` degrees.

    Args:
        angles: (k,) see `Lanes.angles`.
        motion: (3,) as commanded, millimetres.
        tip: (3,) metres.
        positions: (k, 3) metres.
        held: index of what is held, which is never aimed at; -1 for nothing.
    """
    apart = np.hypot(*(positions[:, :2] - tip[:2]).T)
    apart[_gone(positions)] = np.inf
    if held >= 0:
        apart[held] = np.inf
    nearest = int(apart.argmin())
    if apart[nearest] < THERE and np.hypot(*motion[:2]) < 2e3 * THERE:
        return nearest
    if np.isnan(angles).all():
        return -1
    best = int(np.nanargmin(angles))
    return best if angles[best] <= AIMED else -1


def _gone(positions: Array | Numbers) -> NDArray[np.bool_]:
    """(k,) which things are off the table: nothing aims at them."""
    return positions[:, 2] < _BELOW


def _held(state: State) -> int:
    """The movable thing that the fingers have closed on, or -1."""
    for index in range(state.movable):
        dx, dy, dz = np.abs(state.positions[index] - state.tcp)
        size = float(state.sizes[index])
        if max(dx, dy) < 0.016 and dz < 0.020 and state.opening < size + 0.006:
            return index
    return -1


def _angles(state: State, motion: Numbers, held: int) -> Numbers:
    towards = (state.positions - state.tcp)[:, :2].astype(np.float64)
    far = np.hypot(*towards.T)
    length = np.hypot(*motion[:2])
    found = np.full(len(towards), np.nan)
    if length < _STILL_MM:
        return found
    usable = (far > THERE / 2) & ~_gone(state.positions)
    if held >= 0:
        usable[held] = False
    cosines = towards[usable] @ motion[:2] / (far[usable] * length)
    found[usable] = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return found


def _beside(actions: Array, states: Sequence[State], goal: Goal) -> Follower:
    wanted = np.array([expert.act(state, goal) for state in states], np.float64).reshape(-1, 7)
    apart = np.linalg.norm(actions[:, :3] - wanted[:, :3], axis=-1) * COMMAND_MM
    return Follower(goal, apart, (actions[:, 6] > 0) == (wanted[:, 6] > 0))


def _inferences(episode: Episode, states: Sequence[State]) -> tuple[Inference, ...]:
    ends = [one.step for one in episode.predictions[1:]] + [episode.steps]
    found = []
    for one, end in zip(episode.predictions, ends, strict=False):
        state = states[one.step]
        tip, velocity = state.tcp.astype(np.float64), state.velocity.astype(np.float64)
        path = [tip]
        for action in one.chunk:
            tip, velocity = controller.respond(tip, velocity, action[:3].astype(np.float64))
            path.append(tip)
        been = np.array([later.tcp for later in states[one.step : one.step + len(path)]])
        gaps = np.linalg.norm(np.array(path[: len(been)]) - been, axis=-1)
        found.append(Inference(one.step, np.array(path), end - one.step, gaps))
    return tuple(found)
