"""Who demonstrates: the expert, disturbed at random, and what chance decides about an episode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm4vla.action import ActionSpec
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Array, Observation
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.changes import START
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.suite import TRAINED, goal_of, scene_of
from vlm4vla.suites.tabletop.types import State

Planner = Callable[[State, Goal, int], Array]
"""The expert's next n actions for a goal: (n, 7), simulator units."""

NOISE: Final = "noise"
"""The perturbation that disturbs actions, each with a `probability`; see `disturbed`."""

CLEAN_SHARE: Final = 1 / 3
NOISY_STEPS: Final = 0.45
"""A third of the episodes has no noise. The others have it at 45 % of their steps and last longer,
so that about a third of all steps has it."""

NOISE_SPREAD: Final = 0.25
"""Standard deviation of the noise in x, y and z: 1 cm a step, under half the expert's speed."""

FLIP_SHARE: Final = 0.04
"""Noisy steps at which the fingers do the opposite, so that there are drops to recover from."""

NEAR_SHARE: Final = 0.3
NEAR_SPREAD: Final = 0.04
NEAR_HEIGHT: Final = (0.09, 0.14)
"""Episodes that begin near the object: sideways spread and height above the table, metres; high
enough that the open fingers touch nothing."""


@dataclass(frozen=True)
class Draw:
    """What chance decides about an episode before it begins.

    Attributes:
        noise: probability that noise is added to an action.
        start: where the finger tips start, metres; None for the simulator's own draw.
    """

    noise: float
    start: tuple[float, float, float] | None


def draw(scene: Scene, goal: Goal, rng: np.random.Generator, *, expert: bool) -> Draw:
    """Decides about noise and start; a policy gets no noise, its own mistakes are the variety."""
    noise = NOISY_STEPS if expert and rng.random() >= CLEAN_SHARE else 0.0
    if rng.random() >= NEAR_SHARE:
        return Draw(noise, None)
    item = next(item for item in scene.objects if item.name == goal.object)
    dx, dy = rng.uniform(-NEAR_SPREAD, NEAR_SPREAD, 2)
    return Draw(noise, (float(item.x + dx), float(item.y + dy), float(rng.uniform(*NEAR_HEIGHT))))


def condition_of(drawn: Draw, *, expert: bool) -> Condition:
    """The condition of a recorded episode: the sentences of training, and what was drawn.

    Args:
        drawn: noise and start.
        expert: a demonstrator acts, which makes an inference at every step.
    """
    changes = []
    if drawn.start is not None:
        changes.append(Perturbation(START, dict(zip("xyz", drawn.start, strict=True))))
    if drawn.noise:
        changes.append(Perturbation(NOISE, {"probability": drawn.noise}))
    return Condition(TRAINED, replan_every=1 if expert else 0, perturbations=tuple(changes))


def drawn_of(spec: EpisodeSpec) -> Draw:
    """What `condition_of` put into a specification's condition."""
    noise, start = _change(spec, NOISE), _change(spec, START)
    where = None
    if start is not None:
        where = (float(start.values["x"]), float(start.values["y"]), float(start.values["z"]))
    return Draw(float(noise.values["probability"]) if noise is not None else 0.0, where)


def chance(spec: EpisodeSpec) -> np.random.Generator:
    """Where everything random in a recorded episode comes from, first `draw`, then the noise."""
    return np.random.default_rng([spec.seed, sum(spec.task.encode()), 5])


def disturbed(action: Array, rng: np.random.Generator) -> Array:
    """An action with noise: (7,) in simulator units, still within [-1, 1]."""
    noisy = action.copy()
    noisy[:3] = np.clip(action[:3] + rng.normal(0.0, NOISE_SPREAD, 3), -1.0, 1.0)
    if rng.random() < FLIP_SHARE:
        noisy[6] = -noisy[6]
    return noisy


class Demonstrator:
    """The expert as the agent of one demonstration: it plans anew at every step, with noise.

    See `vlm4vla.core.agent.Agent` and `vlm4vla.core.agent.PrivilegedAgent`.

    Args:
        plan: the expert.
        spec: the episode; it says which goal is pursued and how often noise is added.
        rng: where the noise comes from.

    Attributes:
        noisy: whether noise was added, an entry an action.
    """

    identity: AgentId = EXPERT
    replan_every: int = 1
    cameras: tuple[str, ...] = ()
    action: ActionSpec | None = None
    perturbations: tuple[str, ...] = (NOISE,)

    def __init__(self, plan: Planner, spec: EpisodeSpec, rng: np.random.Generator) -> None:
        self.noisy: list[bool] = []
        self._plan = plan
        self._goal = goal_of(spec)
        self._noise = _Noise(spec, rng)
        self._environment: Environment | None = None

    def watch(self, environment: Environment) -> None:
        """See `PrivilegedAgent.watch`."""
        self._environment = environment

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`; the goal is the specification's, whatever the sentence says."""
        self.noisy = []

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`; one action (1, 7)."""
        if self._environment is None:
            raise UserError("The demonstrator has no environment.", "Call watch() first.")
        action = self._plan(self._environment.privileged(), self._goal, 1)[0]
        executed, noisy = self._noise.add(action, observation.step)
        self.noisy.append(noisy)
        return executed[None]


def noisy_steps(spec: EpisodeSpec, steps: int) -> list[bool]:
    """At which of an episode's first steps a `Demonstrator` added noise; nothing has to move."""
    rng = chance(spec)
    first = TABLETOP.spec(spec.task, spec.seed, Condition(TRAINED))
    draw(scene_of(first), goal_of(first), rng, expert=True)
    noise = _Noise(spec, rng)
    still = np.zeros(7, np.float32)
    return [noise.add(still, step)[1] for step in range(steps)]


class _Noise:
    """The noise of one episode, step by step."""

    def __init__(self, spec: EpisodeSpec, rng: np.random.Generator) -> None:
        self._change = _change(spec, NOISE)
        self._rng = rng

    def add(self, action: Array, step: int) -> tuple[Array, bool]:
        """The action of a step as it is executed, and whether it is disturbed."""
        probability = 0.0
        if self._change is not None and self._change.holds(step):
            probability = float(self._change.values["probability"])
        noisy = bool(self._rng.random() < probability)
        return (disturbed(action, self._rng) if noisy else action), noisy


def _change(spec: EpisodeSpec, name: str) -> Perturbation | None:
    return next((one for one in spec.condition.perturbations if one.name == name), None)
