"""One object in a child process, called by method name.

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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from vlm4vla.errors import UserError

START_TIMEOUT: Final = 180.0
CALL_TIMEOUT: Final = 60.0
"""Seconds until a child that does not start or answer is given up. On a new machine a simulator
makes light meshes and compiles shaders before its first picture."""

_STARTER: Final = ThreadPoolExecutor(1, "child-starter")
"""Starts every child. "Dies with its parent" means the thread that started it, not the process, so
that thread must last as long as the process."""


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from the child to the parent."""

    problem: str
    fix: str
    user: bool


class Child:
    """A remote procedure call to one object that lives in a process of its own.

    Args:
        make: makes the object, in the child; a module-level function, a method of a plain value,
            or a partial of one.
        what: what to call the child in messages, such as "simulator".
        remedy: what to do when it has ended.
        call_timeout: seconds that a call may take; a longer one holds for the start as well.

    Raises:
        UserError: the object could not be made; the message says why.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        what: str,
        remedy: str,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        self._what = what
        self._remedy = remedy
        self._call_timeout = call_timeout
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _STARTER.submit(
                subprocess.Popen,
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            ).result()
        self._connection = Connection(ours.detach())
        # An answer does not say to which call it belongs.
        self._one_call = threading.Lock()
        self._errors: list[str] = []
        self._draining = threading.Thread(target=self._drain_errors, daemon=True)
        self._draining.start()
        # A child that is gone already shows when its answer is waited for.
        with suppress(OSError):
            # What `make` names must be found there as it is here.
            self._connection.send(sys.path)
            self._connection.send(make)
        self._answer(max(START_TIMEOUT, call_timeout))

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the child is running."""
        return self._process.poll() is None

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls a method of the object and waits for its answer; one thread's call at a time.

        Whoever is interrupted while waiting ends the child, since its answer would be taken for
        the next call's.

        Raises:
            UserError: the method raised one, or failed otherwise and the child was ended, or the
                child has ended or did not answer in time.
        """
        with self._one_call:
            try:
                self._connection.send((method, arguments, named))
            except (OSError, ValueError):
                raise self._died() from None
            return self._answer(self._call_timeout)

    def get(self, attribute: str) -> Any:
        """An attribute of the object; see `call`."""
        return self.call("__getattribute__", attribute)

    def kill(self) -> None:
        """Ends the child in the middle of whatever it does; a call that waits for it fails."""
        self._process.kill()
        # Whoever asks whether it is alive must not be faster than the signal.
        self._process.wait()

    def close(self) -> None:
        """Ends the child; it cannot be used afterwards."""
        self._connection.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, timeout: float) -> Any:
        answered = False
        try:
            if not self._connection.poll(timeout):
                raise UserError(
                    f"The {self._what} did not answer for {timeout:.0f} s.", self._remedy
                )
            answer = self._connection.recv()
            answered = True
        except (EOFError, OSError):
            raise self._died() from None
        finally:
            if not answered:
                self.kill()
        if isinstance(answer, _Failure):
            if answer.user:
                raise UserError(answer.problem, answer.fix)
            self.close()
            raise UserError(f"The {self._what} failed: {answer.problem}", answer.fix)
        return answer

    def _died(self) -> UserError:
        self._connection.close()
        self._process.kill()
        code = self._process.wait()
        # Its last words may still be on their way; a grandchild could hold them open for ever.
        self._draining.join(1.0)
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = self._errors[-1] if self._errors else ""
        return UserError(
            f"The {self._what}'s process ended ({reason}). {said}".strip(), self._remedy
        )

    def _drain_errors(self) -> None:
        # A full pipe would block the child; only the last lines are worth keeping.
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = [*self._errors[-20:], line.decode(errors="replace").strip()]


def _die_with_parent() -> None:
    # Other systems cannot say so: there a child ends when its pipe does.
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _serve(connection: Connection) -> None:
    try:
        sys.path[:] = connection.recv()
        made = connection.recv()()
        connection.send(None)
    except Exception as error:  # noqa: BLE001 - the parent must be told whatever stops it
        connection.send(_failure(error))
        return
    while True:
        try:
            method, arguments, named = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer = getattr(made, method)(*arguments, **named)
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
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    # Imported under its own name, so that what it sends is known to the parent by that name.
    from vlm4vla.workers import child

    child._serve(Connection(int(sys.argv[1])))
