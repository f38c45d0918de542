"""Success rates of a driver over a range of seeds, several simulators at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vlm4vla.driver import Driver, rollout
from vlm4vla.sim.instructions import Task
from vlm4vla.sim.scene import sample_episode
from vlm4vla.sim.types import Event
from vlm4vla.sim.worker import SimulatorPool
from vlm4vla.statistics import wilson


@dataclass(frozen=True)
class Trial:
    """How one episode went.

    Attributes:
        task: the task.
        seed: the scene's seed.
        instruction: what the driver was told.
        success: whether the goal's condition was met in time.
        steps: control steps until the end.
        events: everything that happened, in order.
    """

    task: Task
    seed: int
    instruction: str
    success: bool
    steps: int
    events: tuple[Event, ...]


def try_seeds(
    make_driver: Callable[[], Driver],
    task: Task,
    seeds: Sequence[int],
    workers: int,
    report: Callable[[Trial], None],
    *,
    held_out: bool = False,
) -> list[Trial]:
    """Runs one episode a seed.

    Args:
        make_driver: called for every episode.
        task: which task.
        seeds: one episode each; the rows come back in this order whatever `workers` is.
        workers: simulators at a time.
        report: called after each episode.
        held_out: use the held-out paraphrases.
    """
    pool = SimulatorPool(limit=workers)

    def one(seed: int) -> Trial:
        episode = sample_episode(task, seed, held_out=held_out)
        events: list[Event] = []
        with pool.acquire() as simulator:
            steps = rollout(
                simulator, make_driver(), episode.scene, episode.goal, episode.instruction
            )
            for step in steps:
                events.extend(step.observation.events)
        trial = Trial(
            task,
            seed,
            episode.instruction,
            step.observation.success,
            step.observation.step,
            tuple(events),
        )
        report(trial)
        return trial

    try:
        with ThreadPoolExecutor(workers) as threads:
            return list(threads.map(one, seeds))
    finally:
        pool.close()


def summarise(trials: Sequence[Trial]) -> dict[str, Any]:
    """The figures of some trials: n, successes, rate, 95 % Wilson interval, wrong objects."""
    rate = wilson(sum(trial.success for trial in trials), len(trials))
    wrong = sum("wrong_object" in trial.events for trial in trials)
    return {
        "n": rate.n,
        "successes": rate.successes,
        "rate": rate.rate,
        "ci95": [round(rate.low, 4), round(rate.high, 4)],
        "wrong_object": wrong / max(rate.n, 1),
    }
