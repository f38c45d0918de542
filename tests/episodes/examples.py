"""An episode of every kind of content, for tests that change what they are about."""

from dataclasses import replace
from typing import Any

import numpy as np

from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Prediction,
    Times,
    Trace,
)
from vlm4vla.episodes.filters import Membership

EVALUATION = Membership("evaluation", "reported")
LIVE = Membership("live")

VERSIONS = {"vlm4vla": "0.1.0", "torch": "2.13.0"}


def motion(steps: int, seed: int = 0) -> tuple[np.ndarray, tuple[Prediction, ...], Trace]:
    """Actions, predictions and a trace as a simulator gives them: objects move one after another.

    Joints and the object that is pushed move smoothly with the jitter of a solver; the others rest.
    """
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps + 1)[:, None]
    joints = rng.normal(size=9) + np.sin(time * rng.uniform(1, 4, 9)) * rng.normal(size=9)
    joints += rng.normal(size=joints.shape) * 1e-6
    poses = np.repeat(rng.normal(size=(1, 4, 7)), steps + 1, 0)
    for number in range(4):
        begin, end = number * steps // 4, (number + 1) * steps // 4
        way = np.cumsum(rng.normal(2e-3, 1e-3, size=(end - begin, 7)), 0)
        poses[begin:end, number] += way
        poses[end:, number] += way[-1] if len(way) else 0
    actions = np.clip(rng.normal(size=(steps + 4, 7)), -1, 1).astype(np.float32)
    # The last chunk reaches beyond the end, and what was not carried out was predicted even so.
    predictions = tuple(Prediction(at, actions[at : at + 4]) for at in range(0, steps, 4))
    trace = Trace(joints.astype(np.float32), poses.astype(np.float32))
    return actions[:steps], predictions, trace


def example(seed: int = 7, *, steps: int = 12, **changes: Any) -> Episode:
    """An episode; fields of the episode, its spec and its condition may be given by name."""
    actions, predictions, trace = motion(steps, seed)
    condition = Condition(
        **{name: changes.pop(name) for name in ("words", "replan_every") if name in changes}
    )
    if changes.pop("noisy", False):
        condition = replace(
            condition, perturbations=(Perturbation("noise", {"sigma": 0.05}, 3, 9),)
        )
    if changes.pop("alternate", False):
        condition = replace(condition, goal="alternate")
    spec = EpisodeSpec(
        suite=changes.pop("suite", "tabletop"),
        task=changes.pop("task", "pick"),
        seed=seed,
        instruction=changes.pop("instruction", "lift the red cube"),
        goal=changes.pop("goal", {"task": "pick", "object": "red cube", "target": None}),
        condition=condition,
        parent=changes.pop("parent", ""),
        branch_step=changes.pop("branch_step", 0),
    )
    kind = changes.pop("outcome", "success")
    measures = {"wrong_object": changes.pop("wrong_object", False), "distance": 0.125}
    digest = changes.pop("agent", "bed03166840b0dc4")
    reading = changes.pop("reading", "")
    return Episode(
        **{
            "spec": spec,
            "agents": (AgentSpan(AgentId("policy", digest, "tiny")),),
            "outcome": Outcome(kind, f"It ended in {kind}.", measures),
            "steps": steps,
            "events": (Event(9, "reached"), Event(steps, "success")),
            "actions": actions,
            "predictions": predictions,
            "trace": trace,
            "times": Times(1.7e9 + seed, 31.25, 4.5),
            "source": "evaluation",
            "versions": VERSIONS,
            "reading": {"kind": reading, "nearest": "lift"} if reading else {},
            **changes,
        }
    )


def content(episode: Episode) -> tuple[Any, ...]:
    """Everything about an episode in values that can be compared, arrays bit by bit."""
    arrays = [episode.actions, episode.trace.joints, episode.trace.poses]
    arrays += [one.chunk for one in episode.predictions]
    return (
        episode.spec.to_json(),
        [(span.agent.kind, span.agent.digest, span.agent.name) for span in episode.agents],
        [span.first_step for span in episode.agents],
        episode.outcome,
        (episode.steps, episode.events, episode.times, episode.source),
        (dict(episode.versions), dict(episode.reading)),
        [one.step for one in episode.predictions],
        [(array.dtype.str, array.shape, array.tobytes()) for array in arrays],
    )
