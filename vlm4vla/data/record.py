"""Recording one episode: drive the simulator, label every frame for every valid goal."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Final

import numpy as np

from vlm4vla import __version__
from vlm4vla.data.schema import CHUNK, EVENTS, EpisodeInfo, Recording
from vlm4vla.driver import Driver
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import Scene, sample_episode
from vlm4vla.suites.tabletop.types import Array, Image, Observation, Pictures, Simulator, State

Planner = Callable[[State, Goal, int], Array]
"""The expert's next n actions for a goal: (n, 7), simulator units."""

CLEAN_SHARE: Final = 1 / 3
NOISY_STEPS: Final = 0.45
"""A third of the episodes has no noise. The others have it at 45 % of their steps and last longer,
so that about a third of all steps has it."""

NOISE: Final = 0.25
"""Standard deviation of the noise in x, y and z: 1 cm a step, under half the expert's speed."""

FLIP_SHARE: Final = 0.04
"""Noisy steps at which the fingers do the opposite, so that there are drops to recover from."""

NEAR_SHARE: Final = 0.3
NEAR_SPREAD: Final = 0.04
NEAR_HEIGHT: Final = (0.09, 0.14)
"""Episodes that begin near the object: sideways spread and height above the table, metres; high
enough that the open fingers touch nothing."""

_PICTURES: Final = Pictures(image=True, segmentation=True)


@dataclass(frozen=True)
class Rig:
    """What a collector works with.

    Attributes:
        simulator: the table and the robot.
        plan: the expert, for the labels.
        driver: who acts; None for the expert, which then looks at every step.
        name: what to call who acts in the data.
    """

    simulator: Simulator
    plan: Planner
    driver: Driver | None
    name: str = "expert"


@dataclass(frozen=True)
class Draw:
    """What chance decides about an episode before it begins.

    Attributes:
        noise: probability that noise is added to an action.
        start: where the finger tips start, metres; None for the simulator's own draw.
    """

    noise: float
    start: tuple[float, float, float] | None


def versions() -> dict[str, str]:
    """Versions of the libraries that pictures and labels depend on."""
    found = {name: metadata.version(name) for name in ("mani_skill", "sapien", "numpy")}
    return {"vlm4vla": __version__} | found


def draw(scene: Scene, goal: Goal, rng: np.random.Generator, *, expert: bool) -> Draw:
    """Decides about noise and start; a policy gets no noise, its own mistakes are the variety."""
    noise = NOISY_STEPS if expert and rng.random() >= CLEAN_SHARE else 0.0
    if rng.random() >= NEAR_SHARE:
        return Draw(noise, None)
    item = next(item for item in scene.objects if item.name == goal.object)
    dx, dy = rng.uniform(-NEAR_SPREAD, NEAR_SPREAD, 2)
    return Draw(noise, (float(item.x + dx), float(item.y + dy), float(rng.uniform(*NEAR_HEIGHT))))


def disturbed(action: Array, rng: np.random.Generator) -> Array:
    """An action with noise: (7,) in simulator units, still within [-1, 1]."""
    noisy = action.copy()
    noisy[:3] = np.clip(action[:3] + rng.normal(0.0, NOISE, 3), -1.0, 1.0)
    if rng.random() < FLIP_SHARE:
        noisy[6] = -noisy[6]
    return noisy


def record(rig: Rig, task: Task, seed: int) -> Recording:
    """Records the episode of a seed.

    Everything random in it comes from the task and the seed, so it is the same in any process.

    Args:
        rig: simulator, labels and driver.
        task: which task the episode is drawn for.
        seed: the scene's seed.
    """
    episode = sample_episode(task, seed)
    scene, goal = episode.scene, episode.goal
    rng = np.random.default_rng([seed, sum(task.encode()), 5])
    drawn = draw(scene, goal, rng, expert=rig.driver is None)
    goals = scene.goals()
    followed = goals.index(goal)
    if rig.driver is not None:
        rig.driver.begin(scene, episode.instruction)
    seen: list[Observation] = [rig.simulator.reset(scene, goal, _PICTURES, drawn.start)]
    chunks: list[Array] = []
    actions: list[Array] = []
    noisy: list[bool] = []
    planned: list[Array] = []
    while len(seen) == 1 or not seen[-1].done:
        now = seen[-1]
        chunks.append(np.stack([rig.plan(now.state, other, CHUNK) for other in goals]))
        if rig.driver is None:
            action = chunks[-1][followed, 0]
        else:
            if not planned:
                planned = list(np.clip(rig.driver.act(now)[: rig.driver.execute], -1.0, 1.0))
            action = planned.pop(0)
        disturb = bool(rng.random() < drawn.noise)
        actions.append(disturbed(action, rng) if disturb else action)
        noisy.append(disturb)
        seen.append(rig.simulator.step(actions[-1], _PICTURES))
    names = seen[0].state.names
    before, after = seen[:-1], seen[1:]
    return Recording(
        info=EpisodeInfo(
            task=task,
            layout=scene.layout,
            seed=seed,
            goal=goal,
            instruction=episode.instruction,
            driver=rig.name,
            noise=drawn.noise,
            start=drawn.start,
            things=names,
            movable=seen[0].state.movable,
            goals=tuple(str(other) for other in goals),
            versions=versions(),
        ),
        images=np.stack([_picture(now) for now in before]),
        state=np.array([[*now.state.tcp, now.state.opening] for now in before], np.float32),
        velocity=np.stack([now.state.velocity for now in before]).astype(np.float32),
        action=np.array(actions, np.float32),
        chunks=np.stack(chunks).astype(np.float32),
        noisy=np.array(noisy, np.bool_),
        positions=np.stack([now.state.positions for now in before]).astype(np.float32),
        pixels=np.stack([_pixels(now, len(names)) for now in before]),
        events=np.array([[name in now.events for name in EVENTS] for now in after], np.bool_),
        success=np.array([now.success for now in after], np.bool_),
        done=np.array([now.done for now in after], np.bool_),
    )


def _picture(seen: Observation) -> Image:
    assert seen.image is not None
    return seen.image


def _pixels(seen: Observation, things: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    assert seen.segmentation is not None
    counts = np.bincount(seen.segmentation.ravel() + 1, minlength=things + 1)
    return counts[1:].astype(np.int64)
