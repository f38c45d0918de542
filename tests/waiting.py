"""Waits that end: each has a bound, and fails with what was seen until then."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, seen: Callable[[], object] = str) -> T:
    """What `condition` gives once it is true; after `seconds` fails with what `seen` tells."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"nothing in {seconds} seconds; seen: {seen()}"
        time.sleep(0.01)
    return found


def within(seconds: float, lines: Iterable[str]) -> Iterator[str]:
    """Passes on lines that come at least now and then, and fails with them after `seconds`."""
    deadline = time.monotonic() + seconds
    seen = []
    for line in lines:
        seen.append(line)
        assert time.monotonic() < deadline, f"no end in {seconds} seconds; seen: {seen}"
        yield line


def join(threads: Iterable[threading.Thread], seconds: float) -> None:
    """Waits for all threads, `seconds` together."""
    threads = list(threads)
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    alive = [thread.name for thread in threads if thread.is_alive()]
    assert not alive, f"no end in {seconds} seconds: {alive}"


class Output:
    """What a process says on its piped output, read as it comes.

    A thread reads, so that a process that says nothing cannot hold the test.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self.lines: list[str] = []
        self._ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            self.lines.append(line)
        self._ended.set()

    def line(self, text: str, seconds: float) -> str:
        """The first line with `text`; fails with everything said if the process ends before."""

        def found() -> list[str]:
            ended = self._ended.is_set()
            lines = [line for line in list(self.lines) if text in line]
            assert lines or not ended, f"ended without {text!r}; said: {''.join(self.lines)}"
            return lines

        return until(found, seconds, lambda: "".join(self.lines))[0]

    def end(self, seconds: float) -> list[str]:
        """All lines, once the process has said its last."""
        until(self._ended.is_set, seconds, lambda: "".join(self.lines))
        return self.lines
