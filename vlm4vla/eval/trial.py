"""Episodes of a driver over a range of seeds, several simulators at a time."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from vlm4vla.driver import Driver, Step, rollout
from vlm4vla.errors import UserError
from vlm4vla.statistics import wilson
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import Scene, sample_episode
from vlm4vla.suites.tabletop.types import Event
from vlm4vla.workers.simulator import SimulatorPool, SimulatorProcess


@dataclass(frozen=True)
class Condition:
    """Under which condition episodes are run.

    Attributes:
        held_out: sentences come from the held-out paraphrases.
        alternate: the goal is the scene's second one, see `sample_episode`; whether the first one
            is done instead is watched.
    """

    held_out: bool = False
    alternate: bool = False


class Case(NamedTuple):
    """An episode to run: a task, and the seed of its scene."""

    task: Task
    seed: int


@dataclass(frozen=True)
class Trial:
    """How one episode went.

    Attributes:
        task: the task.
        seed: the scene's seed.
        scene: its layout and what stands in it.
        instruction: what the driver was told.
        held_out: see `Condition`.
        alternate: see `Condition`.
        goal: what success was measured by.
        success: the goal's condition was met in time.
        old_goal_done: the condition of the scene's first goal was met although the second one was
            asked for; always false without `Condition.alternate`.
        steps: control steps until the end.
        events: pairs of step and event, in order.
        driver_ms: mean time for a chunk.
        physics_ms: mean time for a control step, without pictures.
    """

    task: Task
    seed: int
    scene: str
    instruction: str
    held_out: bool
    alternate: bool
    goal: str
    success: bool
    old_goal_done: bool
    steps: int
    events: tuple[tuple[int, Event], ...]
    driver_ms: float
    physics_ms: float

    @property
    def wrong_object(self) -> bool:
        """Another object than the named one was held or displaced."""
        return any(event == "wrong_object" for _, event in self.events)


def try_seeds(
    make_driver: Callable[[], Driver],
    task: Task,
    seeds: Sequence[int],
    workers: int,
    report: Callable[[Trial], None],
    condition: Condition = Condition(),
) -> list[Trial]:
    """Runs one episode a seed of one task; see `try_cases`."""
    cases = [Case(task, seed) for seed in seeds]
    return try_cases(make_driver, cases, workers, report, condition)


def try_cases(
    make_driver: Callable[[], Driver],
    cases: Sequence[Case],
    workers: int,
    report: Callable[[Trial], None],
    condition: Condition = Condition(),
) -> list[Trial]:
    """Runs one episode a case. Drivers and simulators are started once for all of them.

    Args:
        make_driver: called once in each worker's thread, one call at a time.
        cases: one episode each; the rows come back in this order whatever `workers` is.
        workers: simulators at a time.
        report: called after each episode, one call at a time.
        condition: what is asked for.

    Raises:
        UserError: a simulator's process ended twice in the same episode, or a driver failed.
    """
    pool = SimulatorPool(limit=workers)
    own = threading.local()
    making, reporting = threading.Lock(), threading.Lock()

    def one(case: Case) -> Trial:
        if not hasattr(own, "driver"):
            # transformers switches global state while it loads: two loads at once leave it broken.
            with making:
                own.driver = make_driver()
        trial = _episode(pool, own.driver, case, condition)
        with reporting:
            report(trial)
        return trial

    try:
        with ThreadPoolExecutor(workers) as threads:
            pending = [threads.submit(one, case) for case in cases]
            try:
                return [future.result() for future in pending]
            finally:
                # After a failure or Ctrl-C only the episodes in progress are finished.
                threads.shutdown(wait=False, cancel_futures=True)
    finally:
        pool.close()


def _episode(pool: SimulatorPool, driver: Driver, case: Case, condition: Condition) -> Trial:
    task, seed = case
    episode = sample_episode(task, seed, held_out=condition.held_out, alternate=condition.alternate)
    rival = sample_episode(task, seed).goal if condition.alternate else None

    def run(simulator: SimulatorProcess) -> list[Step]:
        scene, goal, sentence = episode.scene, episode.goal, episode.instruction
        return list(rollout(simulator, driver, scene, goal, sentence, rival=rival))

    steps = _with_a_second_try(pool, run)
    seen = [step.observation for step in steps]
    thinking = [step.think_ms for step in steps if step.think_ms]
    return Trial(
        task=task,
        seed=seed,
        scene=_contents(episode.scene),
        instruction=episode.instruction,
        held_out=condition.held_out,
        alternate=condition.alternate,
        goal=str(episode.goal),
        success=seen[-1].success,
        old_goal_done=any(now.rival for now in seen),
        steps=seen[-1].step,
        events=tuple((now.step, event) for now in seen for event in now.events),
        driver_ms=round(sum(thinking) / max(len(thinking), 1), 2),
        physics_ms=round(sum(now.physics_ms for now in seen[1:]) / max(len(seen) - 1, 1), 2),
    )


def _with_a_second_try(
    pool: SimulatorPool, run: Callable[[SimulatorProcess], list[Step]]
) -> list[Step]:
    """Runs an episode, once more from its start where the simulator's process ended."""
    with pool.acquire() as simulator:
        try:
            return run(simulator)
        except UserError:
            if simulator.alive:
                raise
    with pool.acquire() as simulator:
        return run(simulator)


def _contents(scene: Scene) -> str:
    names = [thing.name for thing in scene.objects] + [place.name for place in scene.fixtures]
    return f"{scene.layout}: {', '.join(names)}"


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures of some trials of one task.

    Returns:
        {"n", "successes", "rate", "ci95": [low, high] (Wilson), "wrong_object", "old_goal_done"};
        the last two are shares of the n episodes.
    """
    rate = wilson(sum(trial.success for trial in trials), len(trials))
    return {
        "n": rate.n,
        "successes": rate.successes,
        "rate": rate.rate,
        "ci95": [round(rate.low, 4), round(rate.high, 4)],
        "wrong_object": sum(trial.wrong_object for trial in trials) / max(rate.n, 1),
        "old_goal_done": sum(trial.old_goal_done for trial in trials) / max(rate.n, 1),
    }


def describe(task: str, row: dict[str, Any]) -> str:
    """One line about a task's row of `summarise`."""
    return (
        f"{task}: {row['successes']}/{row['n']} ({row['rate']:.1%}, 95 % interval "
        f"{row['ci95'][0]:.1%} to {row['ci95'][1]:.1%}), wrong object {row['wrong_object']:.1%}, "
        f"old goal done {row['old_goal_done']:.1%}"
    )


def table(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """Lines of a table over tasks, from rows of `summarise`."""
    lines = [
        f"{'task':8}{'n':>5}{'success':>9}{'95 % interval':>20}{'wrong object':>14}{'old goal':>10}"
    ]
    for task, row in found.items():
        low, high = (f"{end:.1%}" for end in row["ci95"])
        lines.append(
            f"{task:8}{row['n']:5}{row['rate']:9.1%}{low + ' to ' + high:>20}"
            f"{row['wrong_object']:14.1%}{row['old_goal_done']:10.1%}"
        )
    return lines
