"""Experts with a planted fault, and what was planted: agents whose diagnosis is known."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, Episode, EpisodeSpec
from vlm4vla.core.rollout import record
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.suite import goal_of, scene_of

Fault = Literal["none", "corner", "swapped", "late"]

TASKS = {
    "none": ("reach", "pick", "push", "place", "stack"),
    "corner": ("reach", "pick", "push", "place", "stack"),
    "swapped": ("reach", "pick", "push", "place", "stack"),
    "late": ("pick", "place", "stack"),
}
"""A reach and a push never close the fingers."""


@dataclass(frozen=True)
class Planted:
    """What is wrong: from which step on, where to, which goal instead, how many steps late."""

    fault: Fault
    first_step: int = 0
    corner: tuple[float, float, float] = (0.0, 0.0, 0.0)
    other: Goal | None = None
    late: int = 0


def plant(fault: Fault, spec: EpisodeSpec) -> Planted:
    """Draws the numbers of a fault from the scene's seed."""
    rng = np.random.default_rng([spec.seed, len(spec.task), 99])
    first = int(rng.choice([0, 4]))
    if fault == "corner":
        x, y = rng.choice([-0.22, 0.12]), rng.choice([-0.20, 0.20])
        return Planted(fault, first, (float(x), float(y), 0.12))
    if fault == "swapped":
        return Planted(fault, 0, other=_other(goal_of(spec), scene_of(spec), rng))
    if fault == "late":
        return Planted(fault, late=int(rng.integers(4, 10)))
    return Planted(fault)


def _other(goal: Goal, scene: Scene, rng: np.random.Generator) -> Goal:
    """The same task with another object, and the same place where that can be."""
    others = [one for one in scene.goals(goal.task) if one.object != goal.object]
    same = [one for one in others if one.target == goal.target] or others
    return same[int(rng.integers(len(same)))]


class Faulty:
    """The expert with a fault; see `vlm4vla.core.agent.PrivilegedAgent`."""

    cameras: tuple[str, ...] = ()
    action = None

    def __init__(self, spec: EpisodeSpec, planted: Planted) -> None:
        self.identity = AgentId("expert", f"planted {planted.fault}", planted.fault)
        # Within a chunk the expert would lift what it believes to hold.
        self.replan_every = 1 if planted.fault == "late" else 4
        self._goal = goal_of(spec)
        self._planted = planted
        self._environment: Any = None
        self._closing = 0

    def watch(self, environment: Any) -> None:
        self._environment = environment

    def reset(self, instruction: str) -> None:
        self._closing = 0

    def act(self, observation: Any) -> Any:
        state, planted = self._environment.privileged(), self._planted
        acting = observation.step >= planted.first_step
        if planted.fault == "corner" and acting:
            return _towards(state, planted.corner)
        goal = planted.other if planted.other and acting else self._goal
        chunk = expert.plan(state, goal, self.replan_every)
        if planted.fault == "late":
            for row in chunk:
                self._closing = self._closing + 1 if row[6] < 0 else 0
                if 0 < self._closing <= planted.late:
                    row[6] = 1.0
        return chunk


def _towards(state: Any, corner: tuple[float, float, float]) -> Any:
    """Four actions towards a point, as fast as the expert goes, fingers open."""
    tip = state.tcp.astype(np.float64)
    rows = []
    for _ in range(4):
        step = 0.75 * (np.array(corner) - tip) / 0.04
        step *= min(1.0, expert.ACTION_CAP / max(np.abs(step).max(), 1e-9))
        tip = tip + 0.04 * step
        rows.append([*step, 0, 0, 0, 1.0])
    return np.array(rows, np.float32)


def episode_of(environment: Any, fault: Fault, seed: int) -> tuple[Episode, Planted]:
    """Plays the episode of a seed; the task goes round with it."""
    task = TASKS[fault][seed % len(TASKS[fault])]
    spec = TABLETOP.spec(task, seed, Condition())
    planted = plant(fault, spec)
    episode = record(TABLETOP, environment, Faulty(spec, planted), spec, "rollout")
    return replace(episode, source="rollout"), planted
