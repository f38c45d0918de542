"""Rows: an episode as the columns of the table, and back."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from vlm4vla import seeds
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Times,
)
from vlm4vla.episodes.arrays import NO_ARRAYS, unpack
from vlm4vla.episodes.filters import (
    Kind,
    Membership,
    condition_key,
    kinds_of,
    mask_of,
    to_text,
)
from vlm4vla.episodes.plain import agents_from_json, agents_to_json, times_to_json
from vlm4vla.errors import UserError

STOPPED: Final = "stopped"
"""`Outcome.kind` of an episode that a person ended: it says nothing about the agent."""

COLUMNS: Final = (
    "id",
    "legacy_id",
    "request_id",
    "suite",
    "task",
    "goal_task",
    "seed",
    "split",
    "instruction",
    "goal",
    "condition",
    "words",
    "agent",
    "agent_kind",
    "agents",
    "outcome",
    "success",
    "sentence",
    "steps",
    "events",
    "measures",
    "wrong_object",
    "old_goal_done",
    "reading",
    "reading_kind",
    "source",
    "parent",
    "branch_step",
    "created",
    "times",
    "versions",
    "belongs",
    "current",
    "single",
)


class Label(NamedTuple):
    """A person's label of an episode, beside the automatic outcome.

    Attributes:
        label: what it is called.
        who: the person.
        note: what they add.
        created: seconds since the epoch.
    """

    label: str
    who: str
    note: str = ""
    created: float = 0.0


class Entry(NamedTuple):
    """An episode with what the table knows about it besides.

    Attributes:
        episode: what happened.
        memberships: where it belongs.
        legacy_id: the id that an earlier version knew it by, for links that were passed on.
        created: seconds since the epoch; 0 for the episode's own beginning, else now.
        labels: what people said of it.
    """

    episode: Episode
    memberships: tuple[Membership, ...] = ()
    legacy_id: str = ""
    created: float = 0.0
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Row:
    """An episode without its arrays; see `vlm4vla.core.episode.Episode`.

    Attributes:
        id: see `Episode.id`.
        legacy_id: see `Entry`.
        request_id: see `Episode.request_id`.
        spec: what was asked for.
        agents: who acted.
        outcome: how it ended.
        steps: control steps that were carried out.
        events: what happened.
        times: where the time went.
        source: the door that it came through.
        versions: of everything that changes results.
        reading: how the instruction was understood.
        created: seconds since the epoch.
        kinds: what it belongs to.
        current: whether it is the newest episode of its request that came to its end; any of a
            drawn scene before those that a person asked for.
    """

    id: str
    legacy_id: str
    request_id: str
    spec: EpisodeSpec
    agents: tuple[AgentSpan, ...]
    outcome: Outcome
    steps: int
    events: tuple[Event, ...]
    times: Times
    source: str
    versions: Mapping[str, str]
    reading: Mapping[str, Any]
    created: float
    kinds: tuple[Kind, ...]
    current: bool

    @property
    def agent(self) -> AgentId:
        """Who acted first."""
        return self.agents[0].agent

    @property
    def goal_task(self) -> str:
        """The task that was carried out."""
        return str(self.spec.goal.get("task", self.spec.task))


def values_of(entry: Entry) -> dict[str, Any]:
    """The columns of a row by name."""
    episode = entry.episode
    spec, outcome = episode.spec, episode.outcome
    return {
        "id": episode.id,
        "legacy_id": entry.legacy_id,
        "request_id": episode.request_id,
        "suite": spec.suite,
        "task": spec.task,
        "goal_task": episode.goal_task,
        "seed": spec.seed,
        "split": seeds.split_of(spec.seed),
        "instruction": spec.instruction,
        "goal": to_text(dict(spec.goal)),
        "condition": condition_key(spec.condition),
        "words": spec.condition.words,
        "agent": episode.agent.digest,
        "agent_kind": episode.agent.kind,
        "agents": to_text(agents_to_json(episode.agents)),
        "outcome": outcome.kind,
        "success": int(outcome.success),
        "sentence": outcome.sentence,
        "steps": episode.steps,
        "events": to_text([list(event) for event in episode.events]),
        "measures": to_text(dict(outcome.measures)),
        "wrong_object": int(bool(outcome.measures.get("wrong_object"))),
        "old_goal_done": int(bool(outcome.measures.get("old_goal_done"))),
        "reading": to_text(dict(episode.reading)),
        "reading_kind": str(episode.reading.get("kind", "")),
        "source": episode.source,
        "parent": spec.parent,
        "branch_step": spec.branch_step,
        "created": entry.created,
        "times": to_text(times_to_json(episode.times)),
        "versions": to_text(dict(episode.versions)),
        "belongs": mask_of(entry.memberships),
        "current": int(outcome.kind != STOPPED),
        "single": int(len(episode.agents) == 1 and not spec.parent),
    }


# Thousands of rows have the same few of these, and parsing them took half the time of a page.
@lru_cache(maxsize=1024)
def _condition(text: str) -> Condition:
    return Condition.from_json(json.loads(text))


@lru_cache(maxsize=1024)
def _agents(text: str) -> tuple[AgentSpan, ...]:
    return agents_from_json(json.loads(text))


@lru_cache(maxsize=1024)
def _versions(text: str) -> dict[str, str]:
    return dict(json.loads(text))


def row_of(found: sqlite3.Row) -> Row:
    """The row of the columns that a query found."""
    spec = EpisodeSpec(
        suite=found["suite"],
        task=found["task"],
        seed=found["seed"],
        instruction=found["instruction"],
        goal=json.loads(found["goal"]),
        condition=_condition(found["condition"]),
        parent=found["parent"],
        branch_step=found["branch_step"],
    )
    return Row(
        id=found["id"],
        legacy_id=found["legacy_id"],
        request_id=found["request_id"],
        spec=spec,
        agents=_agents(found["agents"]),
        outcome=Outcome(found["outcome"], found["sentence"], json.loads(found["measures"])),
        steps=found["steps"],
        events=tuple(Event(step, name) for step, name in json.loads(found["events"])),
        times=Times(**json.loads(found["times"])),
        source=found["source"],
        versions=dict(_versions(found["versions"])),
        reading=json.loads(found["reading"]),
        created=found["created"],
        kinds=kinds_of(found["belongs"]),
        current=bool(found["current"]),
    )


def episode_of(row: Row, blob: bytes | None) -> Episode:
    """A whole episode.

    Args:
        row: all but its arrays.
        blob: see `vlm4vla.episodes.arrays.pack`; None where only the row is known.

    Raises:
        UserError: the arrays are damaged.
    """
    try:
        arrays = unpack(blob) if blob is not None else NO_ARRAYS
    except ValueError as error:
        raise UserError(
            f"The arrays of episode {row.id} are damaged: {error}.", "Run it again."
        ) from error
    return Episode(
        spec=row.spec,
        agents=row.agents,
        outcome=row.outcome,
        steps=row.steps,
        events=row.events,
        actions=arrays.actions,
        predictions=arrays.predictions,
        trace=arrays.trace,
        times=row.times,
        source=row.source,
        versions=row.versions,
        reading=row.reading,
    )
