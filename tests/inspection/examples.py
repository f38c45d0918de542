"""Stored episodes whose lanes can be worked out on paper."""

from dataclasses import asdict, replace

import numpy as np

from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    Event,
    Outcome,
    Prediction,
    Times,
    Trace,
)
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.suite import scene_of

POLICY = AgentId("policy", "0123456789abcdef", "made up")

HOME = np.array([0.0, np.pi / 8, 0.0, -np.pi * 5 / 8, 0.0, np.pi * 3 / 4, np.pi / 4, 0.04, 0.04])
"""Joint angles with the finger tips over the table, fingers 8 cm apart."""


def still_episode(
    actions: np.ndarray,
    *,
    task: str = "pick",
    seed: int = 0,
    agent: AgentId = EXPERT,
    success: bool = False,
    joints: np.ndarray | None = None,
) -> Episode:
    """An episode in which the arm stays where it is, whatever the actions (T, 7)."""
    spec = TABLETOP.spec(task, seed, Condition())
    scene = scene_of(spec)
    steps = len(actions)
    bodies = [[o.x, o.y, o.size / 2, 1, 0, 0, 0] for o in scene.objects]
    stay = np.tile(HOME, (steps + 1, 1)) if joints is None else joints
    chunks = [Prediction(start, actions[start : start + 4]) for start in range(0, steps, 4)]
    return Episode(
        spec=spec,
        agents=(AgentSpan(agent),),
        outcome=Outcome("success" if success else "not reached", "It was so."),
        steps=steps,
        events=(Event(steps, "success" if success else "timeout"),),
        actions=actions.astype(np.float32),
        predictions=tuple(chunks),
        trace=Trace(
            stay.astype(np.float32),
            np.tile(np.array(bodies, np.float32), (steps + 1, 1, 1)),
        ),
        times=Times(began=1.0),
        source="live",
        versions={"vlm4vla": "0"},
    )


def towards(episode: Episode, name: str) -> np.ndarray:
    """The unit vector (2,) from the still finger tips to a thing, seen from above."""
    from vlm4vla.inspection.states import states_of

    state = states_of(episode)[0]
    way = (state.position(name) - state.tcp)[:2]
    return way / np.linalg.norm(way)


def with_goal(episode: Episode, goal: object) -> Episode:
    return replace(episode, spec=replace(episode.spec, goal=asdict(goal)))
