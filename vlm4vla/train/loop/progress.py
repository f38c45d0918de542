"""What a person sees and does while a run goes on: one line, and Ctrl-C that loses nothing."""

import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

from vlm4vla.train.loop.recipe import Recipe


class Interrupt:
    """Whether somebody asked the run to stop."""

    wanted = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Lets a step end before Ctrl-C or SIGTERM counts."""
    interrupt = Interrupt()

    def remember(number: int, frame: FrameType | None) -> None:
        interrupt.wanted = True

    kept = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


_WINDOW: Final = 60.0
"""Seconds over which the speed is taken: a stage's steps do not all cost the same."""


class Progress:
    """One line that is rewritten on a terminal, and written every 20 seconds elsewhere.

    Args:
        recipe: tells how much there is to do.
        start: steps that were done before.
    """

    def __init__(self, recipe: Recipe, start: int) -> None:
        self.recipe = recipe
        self.told = deque([(time.monotonic(), start)])
        self.shown = 0.0
        self.terminal = sys.stderr.isatty()

    def show(self, done: int, figures: Mapping[str, float]) -> None:
        """Tells of a step, if the last telling was long enough ago."""
        now = time.monotonic()
        if now - self.shown < (0.5 if self.terminal else 20) and done != self.recipe.steps:
            return
        self.shown = now
        self.told.append((now, done))
        while self.told[1][0] < now - _WINDOW:
            self.told.popleft()
        since, before = self.told[0]
        each = (now - since) / (done - before)
        samples = self.recipe.batch * self.recipe.accumulation / each
        left = round(each * (self.recipe.steps - done))
        values = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        line = f"step {done}/{self.recipe.steps} {values} | {samples:.0f} pictures/s"
        end = "\r" if self.terminal else "\n"
        print(f"{line} | {left // 60}:{left % 60:02d} left", end=end, file=sys.stderr, flush=True)

    def log(self, done: int, measured: Mapping[str, float]) -> None:
        """Tells of a measurement."""
        values = " ".join(f"{name} {value:.4g}" for name, value in measured.items())
        print(f"check at {done}: {values}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leaves the line."""
        if self.terminal:
            print(file=sys.stderr)
