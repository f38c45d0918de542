"""Evaluation: the episodes of some specifications, several simulators at a time."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from vlm4vla.core.agent import Agent
from vlm4vla.core.episode import Episode, EpisodeSpec
from vlm4vla.core.rollout import record
from vlm4vla.core.suite import Suite
from vlm4vla.errors import UserError
from vlm4vla.workers.environment import EnvironmentPool


def evaluate(
    suite: Suite,
    specs: Sequence[EpisodeSpec],
    make_agent: Callable[[], Agent],
    workers: int,
    report: Callable[[Episode], None],
) -> list[Episode]:
    """Runs one episode a specification. Agents and simulators are started once for all of them.

    Args:
        suite: whose specifications these are.
        specs: one episode each; they come back in this order whatever `workers` is.
        make_agent: called once in each worker's thread, one call at a time.
        workers: simulators at a time.
        report: called after each episode, one call at a time.

    Raises:
        UserError: a simulator's process ended twice in the same episode, or an agent failed.
    """
    pool = EnvironmentPool(suite, limit=workers)
    own = threading.local()
    making, reporting = threading.Lock(), threading.Lock()

    def one(spec: EpisodeSpec) -> Episode:
        if not hasattr(own, "agent"):
            # transformers switches global state while it loads: two loads at once leave it broken.
            with making:
                own.agent = make_agent()
        episode = _with_a_second_try(pool, own.agent, spec)
        with reporting:
            report(episode)
        return episode

    try:
        with ThreadPoolExecutor(workers) as threads:
            pending = [threads.submit(one, spec) for spec in specs]
            try:
                return [future.result() for future in pending]
            finally:
                # After a failure or Ctrl-C only the episodes in progress are finished.
                threads.shutdown(wait=False, cancel_futures=True)
    finally:
        pool.close()


def _with_a_second_try(pool: EnvironmentPool, agent: Agent, spec: EpisodeSpec) -> Episode:
    """Runs an episode, once more from its start where the simulator's process ended."""
    with pool.acquire() as environment:
        try:
            return record(pool.suite, environment, agent, spec, "evaluation")
        except UserError:
            if environment.alive:
                raise
    with pool.acquire() as environment:
        return record(pool.suite, environment, agent, spec, "evaluation")
