"""Distance of rollout pictures from training pictures, in the features of a policy's own vision.

A feature is the mean of a picture's tokens behind the projector, divided by its standard deviation
over the reference; the distance is Euclid's to the nearest picture of the reference (k = 1).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.agent import Agent
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentSpan, EpisodeSpec
from vlm4vla.core.observation import Image
from vlm4vla.core.rollout import Recorder, rollout
from vlm4vla.core.suite import Suite
from vlm4vla.eval.open_loop import mean_of

UNSEEN: Final = "expert"
"""The expert's own way in scenes that no policy learned from: what a distance is held against."""
SUCCESS: Final = "success"
FAILURE: Final = "failure"
GROUPS: Final = (UNSEEN, SUCCESS, FAILURE)

PARTS: Final = 10
"""Parts of equal length that an episode is cut into."""
FEWEST: Final = 5
"""Failures below which nothing is said of telling failures by distance."""

Numbers = NDArray[np.float64]


class Played(NamedTuple):
    """An episode as the policy's camera saw it.

    Attributes:
        pictures: (T, H, W, 3) uint8 RGB at every step, the last included.
        success: whether it did what it was asked.
    """

    pictures: Image
    success: bool


def play(suite: Suite, environment: Environment, agent: Agent, spec: EpisodeSpec) -> Played:
    """Lets somebody act and keeps what the policy's camera shows at every step."""
    camera = suite.cameras[0]
    recorder = Recorder(suite, spec, [AgentSpan(agent.identity)])
    pictures = []
    for step in rollout(environment, agent, spec, cameras=[camera]):
        recorder.add(step)
        pictures.append(step.transition.observation.images[camera])
    return Played(np.stack(pictures), recorder.episode("evaluation").outcome.success)


def nearest(reference: Numbers, points: Numbers) -> Numbers:
    """(N,) distance of each of N points (N, D) from the nearest of a reference (M, D).

    A feature counts in units of its standard deviation over the reference; one that never varies
    there does not count.
    """
    spread = reference.std(0)
    kept = spread > 0
    known, asked = (one[:, kept] / spread[kept] for one in (reference, points))
    squares = (asked**2).sum(1)[:, None] - 2 * asked @ known.T + (known**2).sum(1)
    return np.sqrt(np.maximum(squares.min(1), 0))


def tells_failure(
    failed: Sequence[tuple[str, Numbers]], done: Sequence[tuple[str, Numbers]]
) -> float | None:
    """How often a failure is further off than a success of the same task; 0.5 by chance.

    Each pair is compared by its mean distances up to where the shorter episode ends: failures run
    to the limit of steps, and over more pictures any largest distance is larger.

    Args:
        failed: of each failed episode its task and its distances (T,).
        done: of each that succeeded.

    Returns:
        A share of the pairs, a tie counted as half; None where no task has both.
    """
    apart = [
        float(np.mean(one[:steps]) - np.mean(other[:steps]))
        for task, one in failed
        for same, other in done
        if same == task
        for steps in [min(len(one), len(other))]
    ]
    return float(np.mean(np.sign(apart)) / 2 + 0.5) if apart else None


def by_parts(distances: Numbers) -> list[float]:
    """Means over `PARTS` parts of an episode; a step lies in the parts that it reaches into."""
    edges = np.linspace(0, len(distances), PARTS + 1)
    return [
        float(distances[int(low) : max(int(np.ceil(high)), int(low) + 1)].mean())
        for low, high in itertools.pairwise(edges)
    ]


def summarise(
    reference: Numbers, episodes: Sequence[tuple[Mapping[str, Any], Numbers]]
) -> dict[str, Any]:
    """What the pictures of episodes are off, plain values.

    Args:
        reference: (M, D) features of training pictures.
        episodes: of each `by` (the expert or the policy), `task` and `success`, and its features
            (T, D).

    Returns:
        `median` distance of the expert's pictures in unseen scenes, the unit of all else; for each
        of `GROUPS` the `mean` over episodes and `parts` of their mean distance, with 95 % bootstrap
        intervals over episodes; `told`: see `tells_failure`, None where fewer than `FEWEST`
        failed.
    """
    groups: dict[str, list[tuple[str, Numbers]]] = {name: [] for name in GROUPS}
    for facts, features in episodes:
        own = SUCCESS if facts["success"] else FAILURE
        group = UNSEEN if facts["by"] == UNSEEN else own
        groups[group].append((facts["task"], nearest(reference, features)))
    median = float(np.median(np.concatenate([one for _, one in groups[UNSEEN]])))
    rows = []
    for name, members in groups.items():
        if members:
            parts = [by_parts(one / median) for _, one in members]
            rows.append(
                {
                    "group": name,
                    "mean": mean_of([float(one.mean()) / median for _, one in members])._asdict(),
                    "parts": [mean_of(part)._asdict() for part in zip(*parts, strict=True)],
                }
            )
    enough = len(groups[FAILURE]) >= FEWEST
    return {
        "median": median,
        "pictures": len(reference),
        "groups": rows,
        "failures": len(groups[FAILURE]),
        "told": tells_failure(groups[FAILURE], groups[SUCCESS]) if enough else None,
    }
