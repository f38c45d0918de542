"""The simulators behind the app: warmed up, limited, and lent for one episode at a time."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from vlm4vla.core.condition import Condition
from vlm4vla.core.suite import Suite
from vlm4vla.errors import UserError
from vlm4vla.live.queue import Queue
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.system import doctor
from vlm4vla.workers.child import START_TIMEOUT
from vlm4vla.workers.environment import EnvironmentPool, EnvironmentProcess

PLACES: Final = 2
"""Simulators alive at once: more would slow each other down on two cores."""

LONGEST_QUEUE: Final = 24
"""Visitors who may wait. Each occupies one of Gradio's 40 threads, and pages need some, too."""


SHARE_OF_QUEUE: Final = LONGEST_QUEUE // 2
"""Of them, those of one address: a class behind one router, and still room for others."""


@dataclass(frozen=True)
class Readiness:
    """Whether episodes can run here.

    Attributes:
        status: "starting" until the first picture is made; "unavailable" if there can be none.
        reason: why not, as a sentence.
        fix: what to do about it.
    """

    status: Literal["starting", "ready", "unavailable"]
    reason: str = ""
    fix: str = ""


class Simulators:
    """The simulators of the app and the queue before them.

    Args:
        suite: whose environments.
        places: episodes that can run at once.
        longest_queue: visitors who can wait for one.
    """

    def __init__(
        self, suite: Suite = TABLETOP, places: int = PLACES, longest_queue: int = LONGEST_QUEUE
    ) -> None:
        self.suite = suite
        self.queue = Queue(places, longest_queue, SHARE_OF_QUEUE)
        self._pool = EnvironmentPool(suite, limit=places, idle_seconds=float("inf"))
        self._readiness = Readiness("starting")
        self._settled = threading.Event()
        self._lent: list[int] = []

    @property
    def busy(self) -> int:
        """Simulators in use now."""
        return self._pool.busy

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the simulators in use now."""
        return tuple(self._lent)

    @property
    def readiness(self) -> Readiness:
        """Whether episodes can run here, as known now."""
        return self._readiness

    def open(self) -> None:
        """Starts a simulator in the background and has it make its first picture.

        That takes seconds, most of them for what the process imports.
        """
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def close(self) -> None:
        """Ends the simulators."""
        self._pool.close()

    def wait(self, seconds: float) -> Readiness:
        """Waits until it is known whether episodes can run here."""
        self._settled.wait(seconds)
        return self._readiness

    @contextlib.contextmanager
    def lend(self) -> Iterator[EnvironmentProcess]:
        """A simulator for one episode.

        Raises:
            UserError: none could be started.
        """
        lease = self._pool.acquire(START_TIMEOUT)
        try:
            with lease as environment:
                self._lent.append(environment.pid)
                yield environment
        finally:
            self._lent.remove(lease.environment.pid)
            if not lease.environment.alive:
                threading.Thread(target=self._first_picture, name="refill", daemon=True).start()

    def _warm_up(self) -> None:
        problem = self._first_picture()
        if problem is not None:
            # Shaders that were compiled before a time limit struck are kept on disk.
            problem = self._first_picture()
        if problem is None:
            self._settle(Readiness("ready"))
            return
        # The doctor knows what usually stops a simulator, and what helps.
        failed = next((check for check in doctor.check_renderer() if check.status == "fail"), None)
        if failed is None:
            self._settle(Readiness("unavailable", problem.problem, problem.fix))
        else:
            reason = f"The simulator cannot render here ({failed.name}): {failed.detail}"
            self._settle(Readiness("unavailable", reason, f"Run `{failed.fix}`."))

    def _first_picture(self) -> UserError | None:
        """Leaves a simulator in the pool that answers at once, or returns what went wrong."""
        try:
            with self._pool.acquire(START_TIMEOUT) as environment:
                spec = self.suite.spec(self.suite.tasks[0], 0, Condition())
                environment.reset(spec, self.suite.cameras)
        except UserError as error:
            return error
        return None

    def _settle(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._settled.set()
