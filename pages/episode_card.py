"""An episode as a card: a drawing of the table from above that plays, a badge, and its facts.

`card` is what the browser is sent, and `SCRIPT` shows it: `episodeCard(value)` gives the element,
`drawing(sketch)` its picture alone. Nothing is rendered, so it works without a simulator.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np

from vlm4vla.core.episode import Episode
from vlm4vla.core.motion import Motion
from vlm4vla.episodes.labels import SUCCESS, Shown
from vlm4vla.eval.tally import condition_text
from vlm4vla.suites.registry import SUITES

SCRIPT: Final = (Path(__file__).parent / "episode_card.js").read_text("utf-8")
"""JavaScript to put before a component's own `js_on_load`."""

STYLE: Final = Path(__file__).parent / "episode_card.css"

MOST_FRAMES: Final = 60
"""Moments of a drawing that plays; an episode of 100 steps is thinned out."""


def card(shown: Shown, episode: Episode | None, *, film: bool) -> dict[str, Any]:
    """What is sent to the browser.

    Args:
        shown: the episode and its labels.
        episode: the same with its arrays; None where they cannot be read.
        film: whether a film of it is kept.
    """
    row, found = shown.row, shown.automatic
    return {
        "id": row.id,
        "instruction": row.spec.instruction,
        "scene": f"{row.goal_task} {row.spec.seed}",
        "about": f"{row.agent.name or row.agent.digest[:8]}, {condition_text(row.spec.condition)}",
        "label": found.label,
        "kind": "success" if found.label == SUCCESS else "failure",
        "step": found.step,
        "steps": row.steps,
        "sentence": found.finding.get("sentence") or row.outcome.sentence,
        "later": [[one["label"], one["step"]] for one in found.finding.get("later", [])],
        "people": [one._asdict() for one in shown.people],
        "film": film,
        "sketch": sketch(episode) if episode else None,
    }


def sketch(episode: Episode) -> dict[str, Any] | None:
    """The table from above as numbers, whole millimetres; None where poses do not tell it.

    As the policy's camera sees it: the robot at the top, its left on the right.
    """
    if episode.spec.suite not in SUITES:
        return None
    motion = SUITES.get(episode.spec.suite).motion(episode)
    if motion is None:
        return None
    (x0, x1), (y0, y1) = motion.table
    moments = _moments(len(motion.gripper))
    return {
        "box": [_mm(y0), _mm(x0), _mm(y1 - y0), _mm(x1 - x0)],
        "things": [
            {
                "name": thing.name,
                "round": thing.round,
                # The picture's x is the world's y.
                "size": [_mm(thing.size[1]), _mm(thing.size[0])],
                "colour": thing.colour,
                "at": [_mm(part) for part in reversed(motion.place(index))],
            }
            for index, thing in enumerate(motion.things)
        ],
        "named": motion.named,
        "target": motion.target,
        "steps": moments.tolist(),
        "hand": _hand(motion)[moments].tolist(),
        "objects": _objects(motion)[moments].tolist(),
    }


def _moments(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_FRAMES)).round().astype(int))


def _hand(motion: Motion) -> np.ndarray:
    """(T + 1, 4) whole mm: right, down, height, opening."""
    x, y, z = motion.gripper.T
    return np.round(1e3 * np.stack([y, x, z, motion.opening], axis=1)).astype(int)


def _objects(motion: Motion) -> np.ndarray:
    """(T + 1, m, 3) whole mm and degrees: right, down, turn."""
    x, y, _ = np.moveaxis(motion.positions, -1, 0)
    # Mirrored: the picture's axes are the world's exchanged.
    turns = -np.degrees(motion.yaws)
    return np.round(np.stack([1e3 * y, 1e3 * x, turns], axis=2)).astype(int)


def _mm(metres: float) -> int:
    return round(1e3 * metres)
