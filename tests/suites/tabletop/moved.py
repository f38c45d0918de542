"""Episodes of the tabletop suite whose hand and objects are put where a test wants them."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    Event,
    Outcome,
    Times,
    Trace,
)
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.kinematics import finger_tips
from vlm4vla.suites.tabletop.suite import scene_of

_HOME = np.array([0.0, np.pi / 8, 0.0, -np.pi * 5 / 8, 0.0, np.pi * 3 / 4, np.pi / 4])

USUAL = Condition()
POLICY = AgentId("policy", "bed03166840b0dc4", "tiny")


@cache
def _arm(point: tuple[float, float, float]) -> np.ndarray:
    """Seven joint positions with the finger tips at a point, by Newton's method."""
    angles = _HOME.copy()
    for _ in range(60):
        missing = np.array(point) - _tip(angles)
        if np.linalg.norm(missing) < 1e-5:
            break
        slope = np.stack([(_tip(angles + 1e-3 * row) - _tip(angles)) / 1e-3 for row in np.eye(7)])
        angles = angles + np.linalg.pinv(slope.T) @ missing
    return angles


def _tip(angles: np.ndarray) -> np.ndarray:
    return finger_tips(np.append(angles, (0.0, 0.0))).astype(float)


def fingers_at(points: np.ndarray, opening: float | Sequence[float]) -> np.ndarray:
    """(n, 9) joint positions with the finger tips at (n, 3) points, so far open."""
    half = np.broadcast_to(np.asarray(opening) / 2, len(points))
    arms = [_arm(tuple(round(float(part), 4) for part in point)) for point in points]
    return np.column_stack([np.stack(arms), half, half]).astype(np.float32)


def episode_of(
    task: str,
    *,
    steps: int,
    seed: int = 0,
    hand: np.ndarray | None = None,
    opening: float | Sequence[float] = 0.08,
    objects: Mapping[int, np.ndarray] | None = None,
    events: Sequence[tuple[int, str]] = (),
    outcome: str = "out of time",
    agent: AgentId = POLICY,
    condition: Condition = USUAL,
) -> Episode:
    """An episode.

    Args:
        task: of the suite.
        steps: control steps.
        seed: of the scene.
        hand: (steps + 1, 3) of the finger tips, metres; far above the table if left out.
        opening: of the fingers, metres: always, or at each moment.
        objects: (steps + 1, 3) centres of movable objects by number; the others rest.
        events: pairs of a step and a name.
        outcome: its kind.
        agent: who acted.
        condition: what was changed.
    """
    spec = TABLETOP.spec(task, seed, condition)
    scene = scene_of(spec)
    if hand is None:
        hand = np.tile((-0.1, 0.0, 0.2), (steps + 1, 1))
    start = [
        (o.x, o.y, o.size / 2, np.cos(o.yaw / 2), 0, 0, np.sin(o.yaw / 2)) for o in scene.objects
    ]
    poses = np.tile(np.array(start, np.float32), (steps + 1, 1, 1))
    for number, path in (objects or {}).items():
        poses[:, number, :3] = path
    wide = np.broadcast_to(np.asarray(opening, float), steps + 1)
    actions = np.zeros((steps, 7), np.float32)
    actions[:, -1] = np.where(wide[1:] > 0.06, 1, -1)
    return Episode(
        spec=spec,
        agents=(AgentSpan(agent),),
        outcome=Outcome(outcome, f"It ended in {outcome}.", {}),
        steps=steps,
        events=tuple(Event(*one) for one in events),
        actions=actions,
        predictions=(),
        trace=Trace(fingers_at(hand, opening), poses),
        times=Times(1.7e9 + seed),
        source="evaluation",
        versions={"vlm4vla": "0.1.0"},
    )
