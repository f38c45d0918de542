"""A simulator in a process of its own, behind the same interface.

The child is started afresh (never forked, so neither torch's nor Vulkan's threads are copied), has
no standard input, and dies with its parent. Messages go over a socket pair that nobody else can
reach.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.types import Array, Observation, Pictures, Simulator
from vlm4vla.system.vulkan import ensure_driver

START_TIMEOUT: Final = 180.0
CALL_TIMEOUT: Final = 60.0
"""Seconds until a simulator that does not start or answer is given up. The first picture on a new
machine compiles shaders, which takes most of the start."""

TABLETOP: Final = "tabletop"
"""Name of the suite's simulator; any other name is a stock ManiSkill environment."""

_STARTER: Final = ThreadPoolExecutor(1, "simulator-starter")
"""Starts every child. "Dies with its parent" means the thread that started it, not the process, so
that thread must last as long as the process."""

_RESTART: Final = "Start the rollout again: it gets a new simulator."


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from the child to the parent."""

    problem: str
    fix: str
    user: bool


class SimulatorProcess:
    """One simulator in a child process; see `vlm4vla.suites.tabletop.types.Simulator`.

    Args:
        environment: `TABLETOP`, or the id of a stock ManiSkill environment.

    Raises:
        UserError: the simulator could not start; the message says why.
    """

    def __init__(self, environment: str = TABLETOP) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _STARTER.submit(
                subprocess.Popen,
                [
                    sys.executable,
                    "-m",
                    "vlm4vla.workers.simulator",
                    str(theirs.fileno()),
                    environment,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ).result()
        self._connection = Connection(ours.detach())
        self._errors: list[str] = []
        threading.Thread(target=self._drain_errors, daemon=True).start()
        self._answer(START_TIMEOUT)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._process.poll() is None

    def reset(
        self,
        scene: Scene,
        goal: Goal,
        pictures: Pictures = Pictures(),
        start: tuple[float, float, float] | None = None,
        rival: Goal | None = None,
    ) -> Observation:
        """See `Simulator.reset`."""
        observation: Observation = self._call("reset", scene, goal, pictures, start, rival)
        return observation

    def step(self, action: Array, pictures: Pictures = Pictures()) -> Observation:
        """See `Simulator.step`."""
        observation: Observation = self._call("step", action, pictures)
        return observation

    def set_goal(self, goal: Goal) -> None:
        """See `Simulator.set_goal`."""
        self._call("set_goal", goal)

    def close(self) -> None:
        """See `Simulator.close`."""
        self._connection.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            self._connection.send((method, arguments))
        except (OSError, ValueError):
            raise self._died() from None
        return self._answer(CALL_TIMEOUT)

    def _answer(self, timeout: float) -> Any:
        try:
            if not self._connection.poll(timeout):
                self._process.kill()
                # Whoever asks whether it is alive must not be faster than the signal.
                self._process.wait()
                raise UserError(f"The simulator did not answer for {timeout:.0f} s.", _RESTART)
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if isinstance(answer, _Failure):
            if answer.user:
                raise UserError(answer.problem, answer.fix)
            self.close()
            raise UserError(f"The simulator failed: {answer.problem}", answer.fix)
        return answer

    def _died(self) -> UserError:
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = self._errors[-1] if self._errors else ""
        return UserError(f"The simulator's process ended ({reason}). {said}".strip(), _RESTART)

    def _drain_errors(self) -> None:
        # A full pipe would block the child; only the last lines are worth keeping.
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = [*self._errors[-20:], line.decode(errors="replace").strip()]


class SimulatorPool:
    """Hands out simulator processes: a cap on live ones, reuse, recycling, and an end to idle ones.

    Args:
        limit: most simulators alive at once.
        recycle_after: episodes after which a process is replaced.
        idle_seconds: how long an unused process is kept.
        environment: see `SimulatorProcess`.
    """

    def __init__(
        self,
        limit: int = 2,
        recycle_after: int = 200,
        idle_seconds: float = 300.0,
        environment: str = TABLETOP,
    ) -> None:
        self._limit = limit
        self._recycle_after = recycle_after
        self._idle_seconds = idle_seconds
        self._environment = environment
        self._condition = threading.Condition()
        self._idle: list[tuple[float, SimulatorProcess, int]] = []
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
        deadline = time.monotonic() + timeout
        with self._condition:
            while self._busy >= self._limit and not self._closed:
                if not self._condition.wait(deadline - time.monotonic()):
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
            return Lease(self, SimulatorProcess(self._environment), 0)
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

    def _give_back(self, process: SimulatorProcess | None, episodes: int) -> None:
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
    """A simulator on loan: use it in a `with` block, and it goes back at the end.

    A simulator that was left in mid-episode is as good as new: `reset` forgets everything.
    """

    def __init__(self, pool: SimulatorPool, process: SimulatorProcess, episodes: int) -> None:
        self._pool = pool
        self.simulator = process
        self._episodes = episodes

    def __enter__(self) -> SimulatorProcess:
        return self.simulator

    def __exit__(self, *_: object) -> None:
        self._pool._give_back(self.simulator, self._episodes + 1)


def _make(environment: str) -> Simulator:
    ensure_driver()
    if environment == TABLETOP:
        from vlm4vla.suites.tabletop.env import Tabletop

        return Tabletop()
    from vlm4vla.suites.maniskill.stock import Stock

    return Stock(environment)


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _serve(connection: Connection, environment: str) -> None:
    try:
        simulator = _make(environment)
        connection.send(None)
    except Exception as error:  # noqa: BLE001 - the parent must be told whatever stops it
        connection.send(_failure(error))
        return
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer = getattr(simulator, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - as above
            answer = _failure(error)
        try:
            connection.send(answer)
        except OSError:
            break
    # Vulkan's own clean-up can hang at exit; everything is in this process and ends with it.
    os._exit(0)


def _failure(error: Exception) -> _Failure:
    if isinstance(error, UserError):
        return _Failure(error.problem, error.fix, user=True)
    return _Failure(f"{type(error).__name__}: {error}", "Run `vlm4vla doctor`.", user=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    # Imported under its own name, so that what it sends is known to the parent by that name.
    from vlm4vla.workers import simulator as worker

    worker._serve(Connection(int(sys.argv[1])), sys.argv[2])
