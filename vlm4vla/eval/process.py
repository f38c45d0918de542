"""A driver in a process of its own, behind the same interface.

Several policies in one process would share its threads' number and Python's lock. A child of its
own has one core to itself, and ends when its parent's end of the pipe is gone, however that ends.
"""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

from vlm4vla.driver import Driver
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.types import Array, Observation


class _About(NamedTuple):
    """A driver's attributes, on their way from the child to the parent."""

    kind: Literal["expert", "policy"]
    label: str
    execute: int


class DriverProcess:
    """One driver in a child process; see `vlm4vla.driver.Driver`.

    Args:
        make_driver: called in the child; a module-level function or a partial of one.

    Raises:
        UserError: the driver could not be made; the message says why.
    """

    def __init__(self, make_driver: Callable[[], Driver]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make_driver, theirs), daemon=True)
        self._process.start()
        # Only the child may hold its end, else its death would go unnoticed.
        theirs.close()
        try:
            about = self._answer()
        except UserError:
            self.close()
            raise
        self.kind: Literal["expert", "policy"] = about.kind
        self.label: str = about.label
        self.execute: int = about.execute

    @property
    def pid(self) -> int | None:
        """Process id of the child."""
        return self._process.pid

    def begin(self, scene: Scene, instruction: str) -> None:
        """See `Driver.begin`."""
        self._call("begin", scene, instruction)

    def act(self, observation: Observation) -> Array:
        """See `Driver.act`."""
        chunk: Array = self._call("act", observation)
        return chunk

    def close(self) -> None:
        """Ends the child; the driver cannot be used afterwards."""
        self._connection.close()
        self._process.join()

    def _call(self, method: str, *arguments: Any) -> Any:
        with suppress(BrokenPipeError):
            self._connection.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise UserError(
                f"The policy's process ended ({how}).",
                "Run the same command again: it goes on where it stopped.",
            ) from None
        if isinstance(answer, UserError):
            raise answer
        return answer


def _serve(make_driver: Callable[[], Driver], connection: Connection) -> None:
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that is gone shows in these ways: then there is nobody to act for.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            driver = make_driver()
        except UserError as error:
            connection.send(error)
            return
        connection.send(_About(driver.kind, driver.label, driver.execute))
        while True:
            method, arguments = connection.recv()
            try:
                answer = getattr(driver, method)(*arguments)
            except UserError as error:
                answer = error
            connection.send(answer)
