"""Episodes as plain values: what a line of the log holds, and what `--json` prints."""

import base64
from collections.abc import Mapping
from typing import Any

from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Times,
)
from vlm4vla.episodes.arrays import pack, unpack


def agents_to_json(agents: tuple[AgentSpan, ...]) -> list[dict[str, Any]]:
    """Who acted, as plain values with their names."""
    return [
        {
            "first_step": span.first_step,
            "kind": span.agent.kind,
            "digest": span.agent.digest,
            "name": span.agent.name,
        }
        for span in agents
    ]


def agents_from_json(plain: list[dict[str, Any]]) -> tuple[AgentSpan, ...]:
    """Who acted; see `agents_to_json`."""
    return tuple(
        AgentSpan(AgentId(one["kind"], one["digest"], one["name"]), one["first_step"])
        for one in plain
    )


def times_to_json(times: Times) -> dict[str, float]:
    """Times as plain values."""
    return {"began": times.began, "think_ms": times.think_ms, "physics_ms": times.physics_ms}


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """A whole episode as plain values; its arrays are one blob in base64."""
    return {
        "spec": episode.spec.to_json(),
        "agents": agents_to_json(episode.agents),
        "outcome": {
            "kind": episode.outcome.kind,
            "sentence": episode.outcome.sentence,
            "measures": dict(episode.outcome.measures),
        },
        "steps": episode.steps,
        "events": [[event.step, event.name] for event in episode.events],
        "arrays": base64.b64encode(pack(episode)).decode("ascii"),
        "times": times_to_json(episode.times),
        "source": episode.source,
        "versions": dict(episode.versions),
        "reading": dict(episode.reading),
    }


def episode_from_json(plain: Mapping[str, Any]) -> Episode:
    """The episode of `episode_to_json`.

    Raises:
        UserError: its condition is not known here.
        KeyError, TypeError, ValueError: it is damaged.
    """
    arrays = unpack(base64.b64decode(plain["arrays"], validate=True))
    return Episode(
        spec=EpisodeSpec.from_json(plain["spec"]),
        agents=agents_from_json(plain["agents"]),
        outcome=Outcome(**plain["outcome"]),
        steps=plain["steps"],
        events=tuple(Event(step, name) for step, name in plain["events"]),
        actions=arrays.actions,
        predictions=arrays.predictions,
        trace=arrays.trace,
        times=Times(**plain["times"]),
        source=plain["source"],
        versions=plain["versions"],
        reading=plain["reading"],
    )
