"""Whoever turns an observation and a sentence into actions."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.instructions import Goal, parse
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.types import Array, Observation, Pictures, Simulator

CHUNK = 4
"""Actions that the expert plans at once."""


class Driver(Protocol):
    """The interface that the scripted expert and every policy share.

    Attributes:
        kind: "expert" reads the simulator's true state; "policy" sees the picture alone.
        label: what people are shown.
        execute: how many actions of a chunk are carried out before the next look.
    """

    kind: Literal["expert", "policy"]
    label: str
    execute: int

    def begin(self, scene: Scene, instruction: str) -> None:
        """Starts an episode. A policy uses the sentence alone.

        Raises:
            UserError: the driver cannot follow this sentence in this scene.
        """
        ...

    def act(self, observation: Observation) -> Array:
        """The next chunk: (n, 7) float32 in [-1, 1], n at least `execute`."""
        ...


@dataclass
class ExpertDriver:
    """The scripted expert, which understands the suite's sentences and nothing else."""

    execute: int = CHUNK
    kind: Literal["expert", "policy"] = "expert"
    label: str = "scripted expert (reads the simulator's state, not the picture)"
    _goal: Goal | None = None

    def begin(self, scene: Scene, instruction: str) -> None:
        """See `Driver.begin`."""
        self._goal = parse(instruction, scene.goals())
        if self._goal is None:
            raise UserError(
                f"The scripted expert does not understand {instruction!r} in this scene.",
                "Name an object and a place of the scene, as the suggested instructions do.",
            )

    def act(self, observation: Observation) -> Array:
        """See `Driver.act`."""
        if self._goal is None:
            raise UserError("The driver has no instruction.", "Call begin() before act().")
        return expert.plan(observation.state, self._goal, max(self.execute, 1))


class Step(NamedTuple):
    """One step of a rollout: what was seen, and the action that led to it (None at the start)."""

    observation: Observation
    action: Array | None
    think_ms: float


def rollout(
    simulator: Simulator,
    driver: Driver,
    scene: Scene,
    goal: Goal,
    instruction: str,
    *,
    view: bool = False,
    image: bool = False,
    rival: Goal | None = None,
    most_steps: int = 0,
) -> Iterator[Step]:
    """Runs one episode, a step at a time, until success or timeout.

    The policy camera takes a picture only where the driver looks, unless `image` is set.

    Args:
        simulator: where it happens.
        driver: who acts.
        scene: what stands where.
        goal: what success is measured by.
        instruction: what the driver is told.
        view: whether every step has a picture for people.
        image: whether every step has the policy camera's picture, whoever acts.
        rival: see `Simulator.reset`.
        most_steps: ends the episode earlier than the task's time limit does; 0 does not.

    Raises:
        UserError: the driver cannot follow the instruction; nothing has moved then.
    """
    driver.begin(scene, instruction)
    looks = driver.kind == "policy"
    observation = simulator.reset(
        scene, goal, Pictures(image=looks or image, view=view), rival=rival
    )
    yield Step(observation, None, 0.0)
    while not _over(observation, most_steps):
        began = time.perf_counter()
        chunk = driver.act(observation)[: driver.execute]
        think_ms = (time.perf_counter() - began) * 1e3
        for index, action in enumerate(chunk):
            last = index == len(chunk) - 1
            observation = simulator.step(
                action, Pictures(image=(looks and last) or image, view=view)
            )
            yield Step(observation, action, think_ms if index == 0 else 0.0)
            if _over(observation, most_steps):
                break


def _over(observation: Observation, most_steps: int) -> bool:
    return observation.done or 0 < most_steps <= observation.step
