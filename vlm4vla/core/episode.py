"""Episodes: what was asked for, who acted, and what happened, as one row for everything."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from vlm4vla.core.condition import Condition, Value
from vlm4vla.core.observation import Array


@dataclass(frozen=True)
class EpisodeSpec:
    """An episode's specification: with the same agent it gives the same episode again.

    Attributes:
        suite: the benchmark suite, such as "tabletop".
        task: what the scene was drawn for.
        seed: the scene's seed.
        instruction: the sentence as the agent is told it.
        goal: what success is measured by, plain values in the suite's own terms.
        condition: what was changed on purpose.
        parent: the id of the episode that this one branches off from; "" for none.
        branch_step: the control step of the parent at which it branches off.
    """

    suite: str
    task: str
    seed: int
    instruction: str
    goal: Mapping[str, Any]
    condition: Condition = field(default_factory=Condition)
    parent: str = ""
    branch_step: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = {
            "suite": self.suite,
            "task": self.task,
            "seed": self.seed,
            "instruction": self.instruction,
            "goal": dict(self.goal),
            "condition": self.condition.to_json(),
        }
        if self.parent or self.branch_step:
            plain |= {"parent": self.parent, "branch_step": self.branch_step}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "EpisodeSpec":
        """The specification of `to_json`.

        Raises:
            UserError: its condition is not known here.
        """
        return cls(**{**plain, "condition": Condition.from_json(plain["condition"])})


@dataclass(frozen=True)
class AgentId:
    """An agent's identity.

    Attributes:
        kind: "expert" reads the simulator's true state, "policy" sees pictures alone.
        digest: what fixes its behaviour: the checkpoint's hash, or the expert's name.
        name: what people call it; no part of its identity.
    """

    kind: str
    digest: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class AgentSpan:
    """The agent that acts from a control step on."""

    agent: AgentId
    first_step: int = 0


class Event(NamedTuple):
    """An event, in the suite's own words, and the control step that it belongs to."""

    step: int
    name: str


@dataclass(frozen=True)
class Outcome:
    """The outcome of an episode.

    Attributes:
        kind: "success", "stopped", or the kind of failure in the suite's own words.
        sentence: the same for people.
        measures: further results by name, such as whether a wrong object was moved.
    """

    kind: str
    sentence: str
    measures: Mapping[str, Value] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the goal was reached."""
        return self.kind == "success"


@dataclass(frozen=True)
class Prediction:
    """A predicted chunk of actions, (n, d), and the control step that it was made at."""

    step: int
    chunk: Array


@dataclass(frozen=True)
class Trace:
    """The poses of an episode, from which every picture of it can be drawn again.

    Attributes:
        joints: (T + 1, j) float32 joint positions, at the start and after every step.
        poses: (T + 1, k, 7) float32 of the movable objects in the suite's order: x, y, z in
            metres and the quaternion (w, x, y, z), world frame.
    """

    joints: Array
    poses: Array

    @classmethod
    def empty(cls) -> "Trace":
        """The trace of a suite that has none."""
        return cls(np.zeros((0, 0), np.float32), np.zeros((0, 0, 7), np.float32))


@dataclass(frozen=True)
class Times:
    """Where an episode's time went.

    Attributes:
        began: seconds since the epoch.
        think_ms: mean time of an inference.
        physics_ms: mean time of a control step without pictures.
    """

    began: float = 0.0
    think_ms: float = 0.0
    physics_ms: float = 0.0


@dataclass(frozen=True)
class Episode:
    """An episode: one row for evaluation, app, rollout and collection alike.

    Where it belongs (a reported evaluation, a selection, a live session, a study's cell) is a
    membership in the table of episodes, not part of what it is.

    Attributes:
        spec: what was asked for.
        agents: who acted, in order of their first step.
        outcome: how it ended.
        steps: control steps that were carried out.
        events: what happened, in order.
        actions: (T, d) float32, as executed.
        predictions: what the agents predicted, and when.
        trace: joints and poses.
        times: where the time went.
        source: the door that it came through: "evaluation", "live", "rollout" or "collection".
        versions: of everything that changes results, by name.
        reading: how the instruction was understood, plain values; empty where it was drawn.
    """

    spec: EpisodeSpec
    agents: tuple[AgentSpan, ...]
    outcome: Outcome
    steps: int
    events: tuple[Event, ...]
    actions: Array
    predictions: tuple[Prediction, ...]
    trace: Trace
    times: Times
    source: str
    versions: Mapping[str, str]
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def agent(self) -> AgentId:
        """Who acted first."""
        return self.agents[0].agent

    @property
    def goal_task(self) -> str:
        """The task that was carried out; a scene allows others than the one it was drawn for."""
        return str(self.spec.goal.get("task", self.spec.task))

    @cached_property
    def request_id(self) -> str:
        """Sixteen hexadecimal digits of what was asked and of whom, whatever the versions are."""
        return request_id(self.spec, self.agents)

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits: a function of specification, agents and versions."""
        return _id(self.request_id, self.versions)


def goal_text(episode: Episode) -> str:
    """What success was measured by, in one line: "place: red cube -> blue bowl"; "" for nothing."""
    goal = episode.spec.goal
    named = [str(goal[part]) for part in ("object", "target") if goal.get(part)]
    return ": ".join(filter(None, [str(goal.get("task", "")), " -> ".join(named)]))


def request_id(spec: EpisodeSpec, agents: Sequence[AgentSpan]) -> str:
    """Sixteen hexadecimal digits of what is asked and of whom."""
    return _digest([spec.to_json(), spans_to_json(agents)])


def episode_id(spec: EpisodeSpec, agents: Sequence[AgentSpan], versions: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits: the episode's id, known before it is run."""
    return _id(request_id(spec, agents), versions)


def _id(request: str, versions: Mapping[str, str]) -> str:
    return _digest([request, dict(sorted(versions.items()))])


def spans_to_json(agents: Sequence[AgentSpan]) -> list[dict[str, Any]]:
    """Who acted, as plain values without names."""
    return [
        {"first_step": span.first_step, "kind": span.agent.kind, "digest": span.agent.digest}
        for span in agents
    ]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
