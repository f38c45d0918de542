"""Environments in processes of their own: one, and a pool that lends them."""

import threading
import time
from collections.abc import Collection
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.action import ActionSpec
from vlm4vla.core.environment import Drawing, Environment, Pose, Transition
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array
from vlm4vla.core.suite import Suite
from vlm4vla.errors import UserError
from vlm4vla.workers.child import Child

_REMEDY: Final = "Start the rollout again: it gets a new simulator."


class _Told(NamedTuple):
    """A transition with the true state, so that asking for it costs no further message."""

    transition: Transition
    privileged: Any


class _Served:
    """An environment as its child process offers it."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.perturbations = tuple(environment.perturbations)
        self.segmentation = environment.segmentation
        self.draw = environment.draw

    def reset(self, spec: EpisodeSpec, cameras: Collection[str]) -> _Told:
        return self._told(self._environment.reset(spec, cameras))

    def step(self, action: Array, cameras: Collection[str]) -> _Told:
        return self._told(self._environment.step(action, cameras))

    def _told(self, transition: Transition) -> _Told:
        try:
            return _Told(transition, self._environment.privileged())
        except UserError as none:
            return _Told(transition, none)


def _serve(suite: Suite) -> _Served:
    return _Served(suite.open())


class EnvironmentProcess:
    """One environment in a child process; see `vlm4vla.core.environment.Environment`.

    Args:
        suite: whose.

    Raises:
        UserError: the simulator could not start; the message says why.
    """

    def __init__(self, suite: Suite) -> None:
        self._child = Child(partial(_serve, suite), "simulator", _REMEDY)
        self.perturbations: tuple[str, ...] = self._child.get("perturbations")
        self.action: ActionSpec = suite.action
        self._privileged: Any = UserError("The simulator has no episode.", "Call reset() first.")

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._child.alive

    def reset(self, spec: EpisodeSpec, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.reset`."""
        return self._told(self._child.call("reset", spec, tuple(cameras)))

    def step(self, action: Array, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.step`."""
        return self._told(self._child.call("step", action, tuple(cameras)))

    def privileged(self) -> Any:
        """See `Environment.privileged`."""
        if isinstance(self._privileged, UserError):
            raise self._privileged
        return self._privileged

    def segmentation(self) -> NDArray[np.int16]:
        """See `Environment.segmentation`."""
        segments: NDArray[np.int16] = self._child.call("segmentation")
        return segments

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        """See `Environment.draw`."""
        drawing: Drawing = self._child.call(
            "draw", spec, pose, tuple(cameras), segmentation=segmentation
        )
        return drawing

    def close(self) -> None:
        """See `Environment.close`."""
        self._child.close()

    def _told(self, told: _Told) -> Transition:
        self._privileged = told.privileged
        return told.transition


class EnvironmentPool:
    """A pool of environments: a cap on live ones, reuse, recycling, and an end to idle ones.

    Args:
        suite: whose environments.
        limit: most simulators alive at once.
        recycle_after: episodes after which a process is replaced.
        idle_seconds: how long an unused process is kept.
    """

    def __init__(
        self,
        suite: Suite,
        limit: int = 2,
        recycle_after: int = 200,
        idle_seconds: float = 300.0,
    ) -> None:
        self.suite = suite
        self._limit = limit
        self._recycle_after = recycle_after
        self._idle_seconds = idle_seconds
        self._condition = threading.Condition()
        self._idle: list[tuple[float, EnvironmentProcess, int]] = []
        self._busy = 0
        self._closed = False
        threading.Thread(target=self._end_idle, daemon=True).start()

    @property
    def busy(self) -> int:
        """Simulators in use now."""
        with self._condition:
            return self._busy

    def acquire(self, timeout: float = 60.0) -> "Lease":
        """A simulator for one episode, waiting for a free place if there is none.

        Raises:
            UserError: no place became free in time, or the simulator could not start.
        """
        with self._condition:
            if not self._condition.wait_for(
                lambda: self._closed or self._busy < self._limit, timeout
            ):
                raise UserError(
                    f"All {self._limit} simulators are in use.", "Try again in a moment."
                )
            if self._closed:
                raise UserError("The simulators are shut down.", "Start the app again.")
            self._busy += 1
            found = self._idle.pop() if self._idle else None
        if found is not None and found[1].alive:
            return Lease(self, found[1], found[2])
        try:
            return Lease(self, EnvironmentProcess(self.suite), 0)
        except BaseException:
            self._give_back(None, 0)
            raise

    def close(self) -> None:
        """Ends every idle simulator; those in use end when they are released."""
        with self._condition:
            self._closed = True
            idle, self._idle = self._idle, []
            self._condition.notify_all()
        for _, process, _ in idle:
            process.close()

    def _give_back(self, process: EnvironmentProcess | None, episodes: int) -> None:
        keep = (
            process is not None
            and process.alive
            and episodes < self._recycle_after
            and not self._closed
        )
        if process is not None and not keep:
            process.close()
        with self._condition:
            self._busy -= 1
            if process is not None and keep:
                self._idle.append((time.monotonic(), process, episodes))
            self._condition.notify()

    def _end_idle(self) -> None:
        while not self._closed:
            time.sleep(min(1.0, self._idle_seconds))
            limit = time.monotonic() - self._idle_seconds
            with self._condition:
                old = [entry for entry in self._idle if entry[0] < limit]
                self._idle = [entry for entry in self._idle if entry[0] >= limit]
            for _, process, _ in old:
                process.close()


class Lease:
    """An environment on loan: use it in a `with` block, and it goes back at the end.

    An environment that was left in mid-episode is as good as new: `reset` forgets everything.
    """

    def __init__(self, pool: EnvironmentPool, process: EnvironmentProcess, episodes: int) -> None:
        self._pool = pool
        self.environment = process
        self._episodes = episodes

    def __enter__(self) -> EnvironmentProcess:
        return self.environment

    def __exit__(self, *_: object) -> None:
        self._pool._give_back(self.environment, self._episodes + 1)
