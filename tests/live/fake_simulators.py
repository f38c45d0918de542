"""Simulators and a catalogue that play the same short episode whatever they are told."""

import contextlib
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from vlm4vla.agents.catalogue import AgentCatalogue, Entry
from vlm4vla.core.environment import Drawing, Pose, Transition
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.live.queue import Queue
from vlm4vla.live.simulators import Readiness
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.changes import GONE

SIDES = {"policy": 8, "view": 16}


DIED = UserError("The simulator's process ended.")


class FakeEnvironment:
    """Touches the object at step 2 and has lifted it at step `lasts`."""

    perturbations: tuple[str, ...] = (GONE,)
    action = TABLETOP.action

    def __init__(
        self,
        gate: threading.Event,
        dies_at: int = -1,
        dies_of: Exception = DIED,
        lasts: int = 5,
    ) -> None:
        self.gate = gate
        self.dies_at = dies_at
        self.dies_of = dies_of
        self.lasts = lasts

    def reset(self, spec: EpisodeSpec, cameras: Collection[str] = ()) -> Transition:
        self.done = 0
        return self.observe(cameras)

    def step(self, action: Any, cameras: Collection[str] = ()) -> Transition:
        self.done += 1
        if self.done == self.lasts:
            self.gate.wait(60)
        return self.observe(cameras)

    def observe(self, cameras: Collection[str]) -> Transition:
        step = self.done
        if step == self.dies_at:
            raise self.dies_of
        images = {name: np.full((SIDES[name],) * 2 + (3,), step, np.uint8) for name in cameras}
        return Transition(
            Observation(step, images, np.zeros(4, np.float32)),
            events={2: ("reached",), self.lasts: ("success",)}.get(step, ()),
            success=step == self.lasts,
            done=step == self.lasts,
            pose=Pose(np.zeros(9, np.float32), np.zeros((3, 7), np.float32)),
            physics_ms=2.0,
            render_ms=3.0,
        )

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        images = {name: np.full((SIDES[name],) * 2 + (3,), 90, np.uint8) for name in cameras}
        return Drawing(images, None, None)


class FakeSimulators:
    """Such an environment in each place; while `gate` is cleared, no last step comes."""

    suite = TABLETOP

    def __init__(
        self,
        dies_at: int = -1,
        places: int = 1,
        longest: int = 2,
        dies_of: Exception = DIED,
        lasts: int = 5,
    ) -> None:
        self.queue = Queue(places, longest)
        self.gate = threading.Event()
        self.gate.set()
        self.readiness = Readiness("ready")
        self.busy = 0
        self.most_busy = 0
        self._new_environment = partial(FakeEnvironment, self.gate, dies_at, dies_of, lasts)
        self._counting = threading.Lock()

    def wait(self, seconds: float) -> Readiness:
        return self.readiness

    @contextlib.contextmanager
    def lend(self) -> Iterator[FakeEnvironment]:
        with self._counting:
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
        try:
            yield self._new_environment()
        finally:
            with self._counting:
                self.busy -= 1


class Still:
    """An agent that does nothing, two actions at a time."""

    replan_every = 2
    action = None

    def __init__(self, kind: Literal["expert", "policy"] = "expert") -> None:
        self.identity = AgentId(kind, "expert", "expert")
        self.cameras = ("policy",) if kind == "policy" else ()

    def reset(self, instruction: str) -> None:
        pass

    def act(self, observation: Observation) -> Any:
        return np.zeros((2, 7), np.float32)


class FakeCatalogue(AgentCatalogue):
    """Nobody but `Still`, in place of the expert or of a policy."""

    def __init__(self, kind: Literal["expert", "policy"] = "expert") -> None:
        super().__init__(roots=())
        identity = AgentId(kind, "expert", "expert")
        self._still = Entry("expert", identity, None, 4, 4, lambda: Still(kind))

    def entry(self, name: object) -> Entry:
        return replace(super().entry(name), **vars(self._still))
