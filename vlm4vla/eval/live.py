"""An episode as it happens, moment by moment, for people who watch."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from vlm4vla.driver import Driver, Step, rollout
from vlm4vla.errors import UserError
from vlm4vla.eval.line import Turn
from vlm4vla.eval.outcome import Happening, Outcome, judge
from vlm4vla.eval.stage import Stage
from vlm4vla.sim.instructions import Goal
from vlm4vla.sim.scene import Scene
from vlm4vla.sim.tasks import TIME_LIMIT
from vlm4vla.sim.types import Image, Pictures

STEPS_PER_SECOND: Final = 15
"""Every control step is shown, at no more than this pace: most links and laptops follow, and the
eye can, too. The robot itself would make 20 steps a second."""

_POLL_SECONDS: Final = 0.5
"""How long a waiting visitor is left without word, and so how soon one who left is noticed."""


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
        image: (128, 128, 3) uint8 RGB from the policy camera; None if none was made.
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
    turn = stage.line.join(visitor)
    try:
        yield from _until_let_in(stage, turn)
        if turn.over():
            return
        goal = scene.goals()[0]
        with stage.simulator() as simulator:
            seen = simulator.reset(scene, goal, Pictures(image=image, view=True))
        assert seen.view is not None
        yield Frame(seen.view, seen.image, 0, TIME_LIMIT[goal.task], (), 0.0, 0.0, seen.render_ms)
    finally:
        turn.leave()


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
    turn = stage.line.join(visitor)
    frame = None
    limit = min(most_steps or TIME_LIMIT[goal.task], TIME_LIMIT[goal.task])
    try:
        yield from _until_let_in(stage, turn)
        if not turn.over():
            yield Waiting(0)
            with stage.simulator() as simulator:
                steps = rollout(
                    simulator,
                    driver,
                    scene,
                    goal,
                    instruction,
                    view=True,
                    image=image,
                    most_steps=most_steps,
                )
                for frame in _frames(steps, limit):
                    yield frame
                    if turn.over():
                        break
        if turn.end != "replaced":
            happened = frame.happenings if frame else ()
            taken = frame.step if frame else 0
            yield judge(goal, happened, taken, stopped=turn.end == "stopped")
    finally:
        turn.leave()


def _frames(steps: Iterator[Step], limit: int) -> Iterator[Frame]:
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
            seen.image,
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
