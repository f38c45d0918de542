"""The simulators behind the app: warmed up, limited, and lent for one episode at a time."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from vlm4vla.errors import UserError
from vlm4vla.eval.line import Line
from vlm4vla.suites.tabletop.scene import sample_episode
from vlm4vla.suites.tabletop.types import Pictures
from vlm4vla.system import doctor
from vlm4vla.workers.simulator import START_TIMEOUT, SimulatorPool, SimulatorProcess

PLACES: Final = 2
"""Simulators alive at once: more would slow each other down on two cores."""

LONGEST_LINE: Final = 24
"""Visitors who may wait. Each occupies one of Gradio's 40 threads, and pages need some, too."""


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


class Stage:
    """Where episodes are played.

    Args:
        places: episodes that can run at once.
        longest_line: visitors who can wait for one.
    """

    def __init__(self, places: int = PLACES, longest_line: int = LONGEST_LINE) -> None:
        self.line = Line(places, longest_line)
        self._pool = SimulatorPool(limit=places, idle_seconds=float("inf"))
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

        That takes seconds, because shaders are compiled then.
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
    def simulator(self) -> Iterator[SimulatorProcess]:
        """A simulator for one episode.

        Raises:
            UserError: none could be started.
        """
        lease = self._pool.acquire(START_TIMEOUT)
        try:
            with lease as simulator:
                self._lent.append(simulator.pid)
                yield simulator
        finally:
            self._lent.remove(lease.simulator.pid)
            if not lease.simulator.alive:
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
            with self._pool.acquire(START_TIMEOUT) as simulator:
                episode = sample_episode("pick", 0)
                simulator.reset(episode.scene, episode.goal, Pictures(image=True, view=True))
        except UserError as error:
            return error
        return None

    def _settle(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._settled.set()
