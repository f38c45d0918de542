"""A stage and a cast that play the same short episode whatever they are told."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from vlm4vla.errors import UserError
from vlm4vla.eval.cast import Actor, Cast
from vlm4vla.eval.line import Line
from vlm4vla.eval.stage import Readiness
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.types import Observation, State

STATE = State(np.zeros(3), np.zeros(3), 0.08, (), np.zeros((0, 3)), np.zeros(0), 0)


class FakeSimulator:
    """Touches the object at step 2 and has lifted it at step 5."""

    def __init__(self, dies_at: int = -1) -> None:
        self.dies_at = dies_at

    def reset(
        self, scene: Any, goal: Goal, pictures: Any, start: Any = None, rival: Any = None
    ) -> Observation:
        self.done = 0
        return self.observe(pictures)

    def step(self, action: Any, pictures: Any) -> Observation:
        self.done += 1
        return self.observe(pictures)

    def observe(self, pictures: Any) -> Observation:
        step = self.done
        if step == self.dies_at:
            raise UserError("The simulator's process ended.")
        events: Any = {2: ("reached",), 5: ("success",)}.get(step, ())
        view = np.full((16, 16, 3), step, np.uint8)
        image = np.zeros((8, 8, 3), np.uint8) if pictures.image else None
        return Observation(
            step, STATE, image, view, None, events, step == 5, False, step == 5, 2.0, 3.0
        )


class FakeStage:
    """A stage with such a simulator in each place."""

    def __init__(self, dies_at: int = -1, places: int = 1, longest: int = 2) -> None:
        self.line = Line(places, longest)
        self.readiness = Readiness("ready")
        self.busy = 0
        self.most_busy = 0
        self._dies_at = dies_at
        self._counting = threading.Lock()

    def wait(self, seconds: float) -> Readiness:
        return self.readiness

    @contextlib.contextmanager
    def simulator(self) -> Iterator[FakeSimulator]:
        with self._counting:
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
        try:
            yield FakeSimulator(self._dies_at)
        finally:
            with self._counting:
                self.busy -= 1


class Still:
    """A driver that does nothing, two actions at a time."""

    label, execute = "still", 2

    def __init__(self, kind: Literal["expert", "policy"] = "expert") -> None:
        self.kind = kind

    def begin(self, scene: Any, instruction: str) -> None:
        pass

    def act(self, observation: Observation) -> Any:
        return np.zeros((2, 7), np.float32)


class FakeCast(Cast):
    """Nobody but `Still`, in place of the expert or of a policy."""

    def __init__(self, kind: Literal["expert", "policy"] = "expert") -> None:
        super().__init__(roots=())
        self._still = Actor("expert", "expert", kind, 4, 4, lambda execute: Still(kind))

    def actor(self, name: object) -> Actor:
        super().actor(name)
        return self._still
