"""An episode as it happens, moment by moment, for people who watch."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from vlm4vla.driver import Driver, Step, rollout
from vlm4vla.errors import UserError
from vlm4vla.eval.line import Turn
from vlm4vla.eval.outcome import Happening, Outcome, judge
from vlm4vla.eval.stage import Stage
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.tasks import TIME_LIMIT
from vlm4vla.suites.tabletop.types import Image, Pictures, Simulator

STEPS_PER_SECOND: Final = 15
"""Every control step is shown, at no more than this pace: most links and laptops follow, and the
eye can, too. The robot itself would make 20 steps a second."""

_POLL_SECONDS: Final = 0.5
"""How long a waiting visitor is left without word, and so how soon one who left is noticed."""


_FORGOTTEN_SECONDS: Final = 20.0
"""How long nobody may ask for the next moment. The app asks as fast as moments come, whatever the
visitor's link is like."""


@dataclass(frozen=True)
class Waiting:
    """Nothing to see yet.

    Attributes:
        place: place in the line, 1 for the next; 0 while the simulator itself gets ready.
    """

    place: int


@dataclass(frozen=True)
class Frame:
    """What can be seen after a control step.

    Attributes:
        view: (384, 384, 3) uint8 RGB.
        image: (128, 128, 3) uint8 RGB from the policy camera; None if it was not asked for.
        step: control steps so far; 0 is the scene as it starts.
        limit: steps until the episode times out.
        happenings: all events so far.
        driver_ms: time the driver took for the chunk that this step belongs to.
        physics_ms: time the simulator took for the step.
        render_ms: time the picture took.
    """

    view: Image
    image: Image | None
    step: int
    limit: int
    happenings: tuple[Happening, ...]
    driver_ms: float
    physics_ms: float
    render_ms: float


Moment = Waiting | Frame | Outcome


def look(
    stage: Stage, visitor: str, scene: Scene, *, image: bool = False
) -> Generator[Waiting | Frame, None, None]:
    """Shows a scene as it starts, once it is the visitor's turn.

    Args:
        stage: where.
        visitor: for whom.
        scene: what stands where.
        image: whether the frame holds the policy camera's picture, too.

    Raises:
        UserError: the line is full, or there is no simulator.
    """
    with _Seat(stage, visitor) as seat:
        for moment in _until_let_in(stage, seat.turn):
            with seat.kept():
                yield moment
        if seat.turn.over():
            return
        goal = scene.goals()[0]
        with stage.simulator() as simulator:
            seen = simulator.reset(scene, goal, Pictures(image=image, view=True))
        assert seen.view is not None
        seat.leave()
        yield Frame(seen.view, seen.image, 0, TIME_LIMIT[goal.task], (), 0.0, 0.0, seen.render_ms)


def play(
    stage: Stage,
    visitor: str,
    driver: Driver,
    scene: Scene,
    goal: Goal,
    instruction: str,
    *,
    most_steps: int = 0,
    image: bool = False,
) -> Generator[Moment, None, None]:
    """Plays an episode, once it is the visitor's turn, and ends with its outcome.

    There is no outcome when the visitor has started another episode meanwhile. Closing the
    iterator at any moment frees the simulator.

    Args:
        stage: where.
        visitor: for whom; nobody has two simulators.
        driver: who acts.
        scene: what stands where.
        goal: what success is measured by.
        instruction: what the driver is told.
        most_steps: steps after which the episode is ended; 0 for the task's own limit.
        image: whether frames hold the policy camera's picture, too.

    Raises:
        UserError: the line is full, there is no simulator or it died, or the driver cannot follow
            the instruction.
    """
    frame = None
    limit = min(most_steps or TIME_LIMIT[goal.task], TIME_LIMIT[goal.task])
    with _Seat(stage, visitor) as seat:
        turn = seat.turn
        for moment in _until_let_in(stage, turn):
            with seat.kept():
                yield moment
        if not turn.over():
            with seat.kept():
                yield Waiting(0)
            steps = rollout(
                seat.simulator(),
                driver,
                scene,
                goal,
                instruction,
                view=True,
                image=image,
                most_steps=most_steps,
            )
            for frame in _frames(steps, limit, image):
                with seat.kept():
                    yield frame
                if turn.over():
                    break
        seat.leave()
        if turn.end != "replaced":
            happened = frame.happenings if frame else ()
            taken = frame.step if frame else 0
            yield judge(goal, happened, taken, stopped=turn.end == "stopped")


class _Seat:
    """A visitor's turn and simulator, given back when the episode is over or nobody listens.

    An iterator that is dropped is closed, but one that is forgotten with a reference to it is not:
    it would keep its place for ever.
    """

    def __init__(self, stage: Stage, visitor: str) -> None:
        self._stage = stage
        self._held = contextlib.ExitStack()
        self._left = threading.Event()
        self.turn = stage.line.join(visitor)
        self._held.callback(self.turn.leave)

    def __enter__(self) -> "_Seat":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def simulator(self) -> Simulator:
        return self._held.enter_context(self._stage.simulator())

    def leave(self) -> None:
        """Gives everything back; doing so twice does no harm."""
        self._held.close()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Around a `yield`: whoever does not ask for more in time has left."""
        timer = threading.Timer(_FORGOTTEN_SECONDS, self._forget)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if self._left.is_set():
            raise UserError("Nobody watched this episode, so it was ended.", "Start it again.")

    def _forget(self) -> None:
        self._left.set()
        self.leave()


def _frames(steps: Iterator[Step], limit: int, image: bool) -> Iterator[Frame]:
    happenings: tuple[Happening, ...] = ()
    driver_ms = 0.0
    due = 0.0
    for step in steps:
        seen = step.observation
        happenings += tuple(Happening(seen.step, event) for event in seen.events)
        driver_ms = step.think_ms or driver_ms
        assert seen.view is not None
        time.sleep(max(0.0, due - time.perf_counter()))
        # Time that was lost is not made up for: the robot would seem to jump.
        due = time.perf_counter() + 1 / STEPS_PER_SECOND
        yield Frame(
            seen.view,
            # A policy has one taken where it looks, which would flash up unasked.
            seen.image if image else None,
            seen.step,
            limit,
            happenings,
            driver_ms,
            seen.physics_ms,
            seen.render_ms,
        )


def _until_let_in(stage: Stage, turn: Turn) -> Iterator[Waiting]:
    while stage.readiness.status == "starting" and not turn.over():
        yield Waiting(0)
        stage.wait(_POLL_SECONDS)
    if stage.readiness.status == "unavailable":
        raise UserError(stage.readiness.reason, stage.readiness.fix)
    while place := turn.wait(0.0):
        yield Waiting(place)
        turn.wait(_POLL_SECONDS)
