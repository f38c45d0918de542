"""A live session: an episode as it happens, moment by moment, for people who watch."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.registry import ordered, perturbation
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.environment import Environment, Transition
from vlm4vla.core.episode import AgentSpan, Episode, EpisodeSpec, Event, Outcome
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.core.rollout import Recorder, Step, rollout
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Membership
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.live.film import film_of
from vlm4vla.live.maps import LiveMap, LiveMaps, MapWishes, NoMap
from vlm4vla.live.queue import Series, Turn
from vlm4vla.live.simulators import Simulators
from vlm4vla.live.switches import SWAP, Switches
from vlm4vla.suites.tabletop.suite import NAME

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
        place: place in the queue, 1 for the next; 0 while the simulator itself gets ready.
    """

    place: int


@dataclass(frozen=True)
class Frame:
    """What can be seen after a control step; both pictures are of the same step.

    Attributes:
        view: (H, W, 3) uint8 RGB, for people.
        image: (h, w, 3) uint8 RGB, what a policy sees.
        step: control steps so far; 0 is the scene as it starts.
        limit: steps until the episode times out.
        events: all events so far.
        think_ms: time of the inference that this step belongs to.
        physics_ms: time the simulator took for the step.
        render_ms: time the pictures took.
        changes: what was switched in mid-run.
        told: the sentence as the agent is told it now.
        map: of the inference that this step belongs to, or why there is none; None where nobody
            wants one.
    """

    view: Image
    image: Image
    step: int
    limit: int
    events: tuple[Event, ...]
    think_ms: float
    physics_ms: float
    render_ms: float
    changes: tuple[Perturbation, ...] = ()
    told: str = ""
    map: LiveMap | NoMap | None = None


@dataclass(frozen=True)
class Finished:
    """An episode that came to its end.

    Attributes:
        episode: what was asked and what happened.
        film: MP4 at the robot's own pace.
        problem: why it could not be stored; "" if it was.
    """

    episode: Episode
    film: bytes
    problem: str = ""


Moment = Waiting | Frame | Outcome | Finished


def look(
    simulators: Simulators,
    visitor: str,
    spec: EpisodeSpec,
    address: str = "",
    series: Series | None = None,
) -> Generator[Waiting | Frame, None, None]:
    """Shows a scene as it starts, once it is the visitor's turn.

    Nothing is shown where the visitor has started something else meanwhile.

    Args:
        simulators: where.
        visitor: for whom.
        spec: whose scene.
        address: see `play`.
        series: see `play`.

    Raises:
        UserError: the queue is full, there is no simulator, or anything else went wrong.
    """
    with (
        surprises_told("The look at the scene"),
        _Seat(simulators, visitor, address, series) as seat,
    ):
        for moment in _until_let_in(simulators, seat.turn):
            with seat.kept():
                yield moment
        if seat.turn.over():
            return
        with simulators.lend() as environment:
            seen = environment.reset(spec, simulators.suite.cameras)
        # Loading a scene takes long enough for another one to be chosen.
        if seat.turn.end == "replaced":
            return
        seat.leave()
        yield _frame(simulators, seen, simulators.suite.limit(spec), (), 0.0)


@contextlib.contextmanager
def borrowed(simulators: Simulators, visitor: str, address: str = "") -> Iterator[Environment]:
    """A simulator for something else than an episode, once it is the visitor's turn.

    Args:
        simulators: where.
        visitor: for whom.
        address: see `play`.

    Raises:
        UserError: the queue is full, there is no simulator, or the visitor has started something
            else meanwhile.
    """
    with _Seat(simulators, visitor, address) as seat:
        for _ in _until_let_in(simulators, seat.turn):
            pass
        if seat.turn.over():
            raise UserError("Something else was started meanwhile.", "Load this page again.")
        yield seat.environment()


def play(
    simulators: Simulators,
    visitor: str,
    agent: Agent,
    spec: EpisodeSpec,
    archive: Archive,
    reading: Mapping[str, Any],
    address: str = "",
    prefix: Array | None = None,
    switches: Switches | None = None,
    series: Series | None = None,
    wishes: MapWishes | None = None,
) -> Generator[Moment, None, None]:
    """Plays and keeps an episode, once it is the visitor's turn.

    The outcome is told before the film is made; the finished episode is the last moment. An
    episode that a person stopped has an outcome but is not kept: it could not be run again to the
    same end. There is neither when the visitor has started another episode meanwhile. Closing the
    iterator at any moment frees the simulator.

    Args:
        simulators: where.
        visitor: for whom; nobody has two simulators.
        agent: who acts.
        spec: what is asked for.
        archive: where the episode is kept.
        reading: how the instruction was understood, plain values.
        address: where the visitor asks from; one address has a share of the queue. "" for none.
        prefix: the parent's actions that a branch carries out first; see `rollout`.
        switches: what the visitor changes about a policy in mid-run; it stands in the condition
            of the episode that is kept, with the step that it began at. None for nothing.
        series: of the visitor's, that this episode belongs to.
        wishes: which map the visitor wants over what a policy sees; None for no maps.

    Raises:
        UserError: the queue is full, there is no simulator or it died, the agent cannot follow
            the instruction, or anything else went wrong.
    """
    suite = simulators.suite
    limit = suite.limit(spec)
    limit = min(spec.condition.max_steps or limit, limit)
    recorder = Recorder(suite, spec, [AgentSpan(agent.identity)])
    maps = LiveMaps(agent, wishes, visitor)
    changing = _Changing(maps.agent, spec, limit, switches, visitor)
    views: list[Image] = []
    with (
        surprises_told("The episode"),
        changing,
        _Seat(simulators, visitor, address, series) as seat,
    ):
        turn = seat.turn
        for moment in _until_let_in(simulators, turn):
            with seat.kept():
                yield moment
        if not turn.over():
            with seat.kept():
                yield Waiting(0)
            steps = rollout(
                seat.environment(),
                changing.agent,
                changing.watched,
                cameras=suite.cameras,
                prefix=prefix,
            )
            for frame in _frames(simulators, steps, limit, recorder):
                # A step was made since, so what was switched before it belongs to the episode.
                recorder.amend(changing.spec)
                frame = replace(changing.shown(frame), map=maps.now())
                views.append(frame.view)
                with seat.kept():
                    yield frame
                if turn.over():
                    break
                changing.switch(frame.step)
        seat.leave()
        if turn.end == "replaced":
            return
        episode = recorder.episode("live", stopped=turn.end == "stopped", reading=reading)
        yield episode.outcome
        if episode.outcome.kind != "stopped":
            yield _kept(episode, views, suite.control_hz, archive)


def _kept(episode: Episode, views: list[Image], control_hz: float, archive: Archive) -> Finished:
    film = film_of(views, control_hz)
    try:
        archive.table.put(episode, [Membership("live")])
        archive.films.put(episode.id, film)
    except UserError as error:
        return Finished(episode, film, str(error))
    return Finished(episode, film)


class _Changing:
    """A policy that its visitor may blind or tell something else while it acts.

    Attributes:
        agent: who acts.
        watched: the specification to be played; the goal of the other sentence is watched from the
            start, for nobody knows yet whether it will be told.
        spec: the specification with what was switched so far.
    """

    def __init__(
        self,
        agent: Agent,
        spec: EpisodeSpec,
        limit: int,
        switches: Switches | None,
        visitor: str,
    ) -> None:
        self.agent, self.watched, self.spec = agent, spec, spec
        self._visitor, self._number = visitor, -1
        self._switches: Switches | None = None
        self._layer: PerturbedAgent | None = None
        # An expert looks at no picture; other suites have no other sentence.
        if switches and agent.identity.kind == "policy" and spec.suite == NAME:
            self._switches = switches
            self.agent = self._layer = PerturbedAgent(agent)
            self.watched = _with(spec, perturbation(SWAP, first_step=limit + 1))
        elif isinstance(agent, PerturbedAgent) and agent.cameras:
            self._layer = agent

    def __enter__(self) -> "_Changing":
        if self._switches:
            self._number = self._switches.begin(self._visitor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._switches:
            self._switches.end(self._visitor, self._number)

    def switch(self, step: int) -> None:
        """Does what was asked for, from this step on; nothing twice."""
        if self._switches is None or self._layer is None:
            return
        for name in self._switches.take(self._visitor, self._number):
            if name not in {one.name for one in self.spec.condition.perturbations}:
                change = perturbation(name, first_step=step)
                self._layer.perturb(change)
                self.spec = _with(self.spec, change)

    def shown(self, frame: Frame) -> Frame:
        """The frame with the picture that the policy sees and the sentence that it is told."""
        if self._layer is None:
            return frame
        camera = self._layer.cameras[0]
        seen = Observation(frame.step, {camera: frame.image}, np.zeros(0, np.float32))
        return replace(
            frame,
            image=self._layer.seen(seen).images[camera],
            changes=self.spec.condition.perturbations,
            told=self._layer.told(frame.step),
        )


def _with(spec: EpisodeSpec, change: Perturbation) -> EpisodeSpec:
    changes = ordered([*spec.condition.perturbations, change])
    return replace(spec, condition=replace(spec.condition, perturbations=changes))


class _Seat:
    """A visitor's turn and simulator, given back when the episode is over or nobody listens.

    An iterator that is dropped is closed, but one that is forgotten with a reference to it is not:
    it would keep its place for ever.
    """

    def __init__(
        self, simulators: Simulators, visitor: str, address: str, series: Series | None = None
    ) -> None:
        self._simulators = simulators
        self._held = contextlib.ExitStack()
        self._left = threading.Event()
        self.turn = simulators.queue.join(visitor, address, series)
        self._held.callback(self.turn.leave)

    def __enter__(self) -> "_Seat":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def environment(self) -> Environment:
        return self._held.enter_context(self._simulators.lend())

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


def _frames(
    simulators: Simulators, steps: Iterator[Step], limit: int, recorder: Recorder
) -> Iterator[Frame]:
    think_ms = 0.0
    due = 0.0
    for step in steps:
        recorder.add(step)
        think_ms = step.think_ms or think_ms
        time.sleep(max(0.0, due - time.perf_counter()))
        # Time that was lost is not made up for: the robot would seem to jump.
        due = time.perf_counter() + 1 / STEPS_PER_SECOND
        yield _frame(simulators, step.transition, limit, tuple(recorder.events), think_ms)


def _frame(
    simulators: Simulators,
    seen: Transition,
    limit: int,
    events: tuple[Event, ...],
    think_ms: float,
) -> Frame:
    images = seen.observation.images
    policys, peoples = simulators.suite.cameras[0], simulators.suite.cameras[-1]
    return Frame(
        images[peoples],
        images[policys],
        seen.observation.step,
        limit,
        events,
        think_ms,
        seen.physics_ms,
        seen.render_ms,
    )


def _until_let_in(simulators: Simulators, turn: Turn) -> Iterator[Waiting]:
    while simulators.readiness.status == "starting" and not turn.over():
        yield Waiting(0)
        simulators.wait(_POLL_SECONDS)
    if simulators.readiness.status == "unavailable":
        raise UserError(simulators.readiness.reason, simulators.readiness.fix)
    while place := turn.wait(0.0):
        yield Waiting(place)
        turn.wait(_POLL_SECONDS)
