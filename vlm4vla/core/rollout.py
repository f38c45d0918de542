"""The rollout: the one loop in which an agent acts in an environment.

Collection, replay, evaluation, the command line and the app all go through it.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Final, NamedTuple

import numpy as np

from vlm4vla.core.agent import Agent, PerturbableAgent, PrivilegedAgent
from vlm4vla.core.environment import Environment, Transition
from vlm4vla.core.episode import (
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Prediction,
    Times,
    Trace,
)
from vlm4vla.core.observation import Array
from vlm4vla.core.suite import Suite
from vlm4vla.errors import UserError

_POLICY_PACKAGES: Final = ("torch", "transformers")
"""Packages whose version changes what a policy computes."""


class Step(NamedTuple):
    """A step of a rollout.

    Attributes:
        transition: what the environment gave.
        action: (d,) the action that led to it; None at the start.
        chunk: (n, d) the chunk predicted just before that action; None if it is from an earlier
            inference.
        think_ms: time of that inference.
    """

    transition: Transition
    action: Array | None = None
    chunk: Array | None = None
    think_ms: float = 0.0


class Shift(NamedTuple):
    """An agent and the control step from which on it acts."""

    first_step: int
    agent: Agent


def rollout(
    environment: Environment,
    agent: Agent | Sequence[Shift],
    spec: EpisodeSpec,
    *,
    cameras: Collection[str] = (),
    prefix: Array | None = None,
) -> Iterator[Step]:
    """Runs one episode, a step at a time, until success, timeout or the condition's last step.

    An agent's own cameras take a picture only where it makes an inference.

    An agent that takes over begins anew: with the instruction, and with a chunk of its own.

    Args:
        environment: where it happens.
        agent: who acts; several with the step from which on each does, the first at 0.
        spec: what is asked for.
        cameras: whose pictures every step should hold, whoever acts.
        prefix: (branch step, d) the parent's executed actions up to where a branched episode
            leaves it; they are carried out first.

    Raises:
        UserError: an agent cannot follow the instruction, the environment cannot set the
            episode up or would take an agent's actions for others, or nobody carries out one of
            the perturbations. Nothing has moved then. Or, later on, what an agent gives is no
            chunk of finite actions.
    """
    shifts = list(agent) if isinstance(agent, Sequence) else [Shift(0, agent)]
    _check(environment, shifts, spec, prefix)
    for _, one in shifts:
        if isinstance(one, PerturbableAgent):
            one.prepare(spec)
        if isinstance(one, PrivilegedAgent):
            one.watch(environment)
    forced = list(prefix) if prefix is not None else []
    acting = _acting(shifts, len(forced))
    transition = environment.reset(spec, _wanted(cameras, None if forced else acting))
    # After the environment: an expert looks at what stands there.
    for _, one in shifts:
        one.reset(spec.instruction)
    yield Step(transition)
    planned: list[Array] = []
    while not _over(transition, spec):
        step = transition.observation.step
        chunk: Array | None = None
        think_ms = 0.0
        if forced:
            action = forced.pop(0)
        else:
            if acting is not _acting(shifts, step):
                acting, planned = _acting(shifts, step), []
                acting.reset(spec.instruction)
            if not planned:
                began = time.perf_counter()
                chunk = _finite(acting, acting.act(transition.observation), step)
                think_ms = (time.perf_counter() - began) * 1e3
                planned = list(chunk[: spec.condition.replan_every or acting.replan_every])
            action = planned.pop(0)
        following = _acting(shifts, step + 1)
        thinks_next = not forced and (not planned or following is not acting)
        transition = environment.step(action, _wanted(cameras, following if thinks_next else None))
        yield Step(transition, action, chunk, think_ms)


def _check(
    environment: Environment, shifts: Sequence[Shift], spec: EpisodeSpec, prefix: Array | None
) -> None:
    first_steps = [first for first, _ in shifts]
    if first_steps[:1] != [0]:
        raise UserError("Nobody acts at the first step.", "Let the first agent begin at step 0.")
    if first_steps != sorted(set(first_steps)):
        raise UserError(
            f"The agents begin at steps {', '.join(map(str, first_steps))}.",
            "Name each with a later step than the one before.",
        )
    if len(prefix if prefix is not None else ()) != spec.branch_step:
        raise UserError(
            f"The episode branches off at step {spec.branch_step}, but "
            f"{len(prefix if prefix is not None else ())} actions of its parent are given.",
            "Give exactly the parent's actions up to there.",
        )
    known = set(environment.perturbations)
    for _, one in shifts:
        if one.action is not None:
            one.action.check_means(environment.action, one.identity.name)
        known |= set(getattr(one, "perturbations", ()))
    if unknown := sorted({p.name for p in spec.condition.perturbations} - known):
        raise UserError(
            f"Nobody here carries out the perturbation {unknown[0]!r}.",
            f"Known here: {', '.join(sorted(known)) or 'none'}.",
        )


def _finite(agent: Agent, chunk: Array, step: int) -> Array:
    """The chunk, if it can be one; the agent is named, and nobody blames the simulator.

    Raises:
        UserError: it is empty, has another shape, or a number in it is not finite.
    """
    if np.ndim(chunk) != 2 or 0 in np.shape(chunk):
        raise UserError(
            f"{agent.identity.name} gave {np.shape(chunk)} as a chunk at step {step}, not (n, d)."
        )
    if not np.isfinite(chunk).all():
        raise UserError(
            f"{agent.identity.name} gave actions that are not finite at step {step}.",
            "They are not carried out; look at its weights.",
        )
    return chunk


def _acting(shifts: Sequence[Shift], step: int) -> Agent:
    return [one for first, one in shifts if first <= step][-1]


def _wanted(cameras: Collection[str], thinking: Agent | None) -> tuple[str, ...]:
    own = thinking.cameras if thinking else ()
    return tuple(dict.fromkeys((*cameras, *own)))


def _over(transition: Transition, spec: EpisodeSpec) -> bool:
    last = spec.condition.max_steps
    return transition.done or 0 < last <= transition.observation.step


class Recorder:
    """Gathers the steps of a rollout into an episode; it holds numbers, no pictures.

    Args:
        suite: which judges the episode.
        spec: what is asked for.
        agents: who acts.
    """

    def __init__(self, suite: Suite, spec: EpisodeSpec, agents: Sequence[AgentSpan]) -> None:
        self._suite = suite
        self._spec = spec
        self._agents = tuple(agents)
        self._began = time.time()
        self._last: Transition | None = None
        self._watched = False
        self._joints: list[Array] = []
        self._poses: list[Array] = []
        self._actions: list[Array] = []
        self._predictions: list[Prediction] = []
        self._thinking: list[float] = []
        self._physics: list[float] = []
        self.events: list[Event] = []

    @property
    def steps(self) -> int:
        """Control steps so far."""
        return len(self._actions)

    def amend(self, spec: EpisodeSpec) -> None:
        """Takes the specification with what was changed in mid-run."""
        self._spec = spec

    def add(self, step: Step) -> None:
        """Takes the next step of the rollout."""
        seen = step.transition
        if step.action is not None:
            if step.chunk is not None:
                self._predictions.append(Prediction(self.steps, step.chunk))
                self._thinking.append(step.think_ms)
            self._actions.append(step.action)
            self._physics.append(seen.physics_ms)
        if seen.pose is not None:
            self._joints.append(seen.pose.joints)
            self._poses.append(seen.pose.poses)
        self.events += [Event(seen.observation.step, name) for name in seen.events]
        self._watched = self._watched or seen.watched
        self._last = seen

    def episode(
        self, source: str, *, stopped: bool = False, reading: Mapping[str, Any] | None = None
    ) -> Episode:
        """The episode so far.

        Args:
            source: see `vlm4vla.core.episode.Episode`.
            stopped: a person ended it early.
            reading: how the instruction was understood.
        """
        outcome = self._suite.tell(self._spec, self.events, self.steps, stopped=stopped)
        if self._spec.condition.watches:
            measures = {**outcome.measures, "old_goal_done": self._watched}
            outcome = type(outcome)(outcome.kind, outcome.sentence, measures)
        width = len(self._suite.action.units)
        trace = Trace.empty()
        if self._joints:
            trace = Trace(np.stack(self._joints), np.stack(self._poses))
        return Episode(
            spec=self._spec,
            agents=self._agents,
            outcome=outcome,
            steps=self.steps,
            events=tuple(self.events),
            actions=np.array(self._actions, np.float32).reshape(self.steps, width),
            predictions=tuple(self._predictions),
            trace=trace,
            times=Times(self._began, _mean(self._thinking), _mean(self._physics)),
            source=source,
            versions=versions_of(self._suite, self._agents),
            reading=dict(reading or {}),
        )


def record(
    suite: Suite, environment: Environment, agent: Agent, spec: EpisodeSpec, source: str
) -> Episode:
    """Runs one episode to its end, without pictures for people.

    Raises:
        UserError: see `rollout`.
    """
    recorder = Recorder(suite, spec, [AgentSpan(agent.identity)])
    for step in rollout(environment, agent, spec):
        recorder.add(step)
    return recorder.episode(source)


def versions_of(suite: Suite, agents: Sequence[AgentSpan]) -> dict[str, str]:
    """Versions of everything that changes what these agents do in this suite."""
    found = dict(suite.versions())
    if any(span.agent.kind == "policy" for span in agents):
        found |= {name: metadata.version(name) for name in _POLICY_PACKAGES}
    return found


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0
