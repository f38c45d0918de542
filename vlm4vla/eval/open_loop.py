"""Open-loop error: how far a policy is from the expert along an episode that the expert plays.

The policy is asked at every step of an expert episode and moves nothing. What it predicts is
compared with what the expert did next: by dimension and by phase, along the chunk, and when the
fingers close.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.agent import Agent
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentSpan, EpisodeSpec, Event
from vlm4vla.core.observation import Array, Image
from vlm4vla.core.rollout import Recorder, rollout
from vlm4vla.core.suite import Suite
from vlm4vla.errors import UserError

PHASES: Final = ("approach", "contact", "carry")
"""Before the named object is touched; from then on; from when both fingers hold it."""

DIMENSIONS: Final = ("x", "y", "z")
LENGTH: Final = "length"
"""Of the difference of the two commanded motions."""

STILL: Final = "still"
"""The same length for whoever always commands no motion: what an error has to be held against."""

MEASURES: Final = (*DIMENSIONS, LENGTH, STILL)
ALL: Final = "all"

_BATCH: Final = 32
_DRAWS: Final = 2_000


class Predicting(Protocol):
    """What is asked of a policy; `vlm4vla.model.policy.Policy` has it."""

    def act(self, images: Image, instructions: Sequence[str]) -> Array:
        """Chunks (B, n, 7) in the environment's units for B pictures."""
        ...


@dataclass(frozen=True)
class Followed:
    """An episode of the expert, as a policy would have seen it.

    Attributes:
        instruction: the sentence.
        pictures: (T, H, W, 3) uint8 RGB before each of T actions.
        actions: (T, 7) what the expert did.
        events: what happened.
    """

    instruction: str
    pictures: Image
    actions: Array
    events: tuple[Event, ...]


class Mean(NamedTuple):
    """A mean over episodes with its 95 % interval (percentile bootstrap over episodes)."""

    mean: float
    low: float
    high: float
    n: int


def follow(suite: Suite, environment: Environment, expert: Agent, spec: EpisodeSpec) -> Followed:
    """Lets the expert play an episode and keeps what the policy's camera shows at every step."""
    camera = suite.cameras[0]
    recorder = Recorder(suite, spec, [AgentSpan(expert.identity)])
    pictures = []
    for step in rollout(environment, expert, spec, cameras=[camera]):
        recorder.add(step)
        pictures.append(step.transition.observation.images[camera])
    episode = recorder.episode("evaluation")
    # Nobody acts on the last picture.
    seen = np.stack(pictures[:-1])
    return Followed(spec.instruction, seen, episode.actions, episode.events)


def predicted(policy: Predicting, followed: Followed) -> Array:
    """(T, n, 7) what a policy would have done at every step of the expert's way."""
    parts = [followed.pictures[i : i + _BATCH] for i in range(0, len(followed.pictures), _BATCH)]
    return np.concatenate([policy.act(one, [followed.instruction] * len(one)) for one in parts])


def phases_of(events: Iterable[Event], steps: int) -> NDArray[np.int64]:
    """(T,) index into `PHASES` of every action: what had happened before it."""
    phase = np.zeros(steps, np.int64)
    for index, name in ((1, "reached"), (2, "grasped")):
        # An event at step s follows the action s - 1.
        first = min((step for step, told in events if told == name), default=steps)
        phase[first:] = index
    return phase


def measure(followed: Followed, chunks: Array, millimetres: Sequence[float]) -> dict[str, Any]:
    """The errors of one episode, plain values.

    Args:
        followed: T actions of the expert.
        chunks: (T, n, 7) see `predicted`.
        millimetres: (3,) what 1.0 of x, y and z commands.

    Returns:
        `phases`: by phase the number of steps and the mean of each of `MEASURES` for the first
        action of a chunk, millimetres; `along`: (n,) mean length for every action of a chunk;
        `fingers`: at how many steps the first action commands them otherwise than the expert, and
        the first step at which the expert and the policy close them, None for never.

    Raises:
        UserError: the numbers of actions and chunks differ.
    """
    actions = followed.actions.astype(np.float64)
    if len(chunks) != len(actions):
        raise UserError(f"{len(chunks)} chunks do not belong to {len(actions)} actions.")
    scale = np.asarray(millimetres, np.float64)
    apart = [
        (chunks[: len(actions) - k, k, :3] - actions[k:, :3]) * scale
        for k in range(min(chunks.shape[1], len(actions)))
    ]
    first = np.abs(apart[0])
    columns = np.column_stack(
        [
            first,
            np.linalg.norm(apart[0], axis=-1),
            np.linalg.norm(actions[:, :3] * scale, axis=-1),
        ]
    )
    phase = phases_of(followed.events, len(actions))
    found = {}
    for index, name in ((-1, ALL), *enumerate(PHASES)):
        some = columns if index < 0 else columns[phase == index]
        if len(some):
            means = map(float, some.mean(0))
            found[name] = {"steps": len(some), **dict(zip(MEASURES, means, strict=True))}
    wanted, told = actions[:, 6] < 0, chunks[:, 0, 6] < 0
    return {
        "phases": found,
        "along": [float(np.linalg.norm(one, axis=-1).mean()) for one in apart],
        "fingers": {
            "steps": len(actions),
            "otherwise": int((wanted != told).sum()),
            "expert": _first(wanted),
            "policy": _first(told),
        },
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over episodes with intervals, plain values; millimetres and steps.

    Args:
        records: one of `measure` an episode, with its `task`.

    Returns:
        `rows`: for every task and phase, and for all, the mean of each of `MEASURES`; `along`: by
        the action's place in its chunk; `fingers`: the share of steps that they are told otherwise
        than by the expert, how many episodes the expert closes them in, in how many of those the
        policy never does, and how many steps later than the expert it does in the others.
    """
    tasks = list(dict.fromkeys(str(one["task"]) for one in records))
    rows = []
    for task in (ALL, *tasks):
        own = [one for one in records if task in (ALL, one["task"])]
        for phase in (ALL, *PHASES):
            there = [one["phases"][phase] for one in own if phase in one["phases"]]
            if there:
                means = {name: mean_of([one[name] for one in there])._asdict() for name in MEASURES}
                rows.append({"task": task, "phase": phase, "n": len(there), **means})
    fingers = [one["fingers"] for one in records]
    closing = [one for one in fingers if one["expert"] is not None]
    late = [one["policy"] - one["expert"] for one in closing if one["policy"] is not None]
    longest = max((len(one["along"]) for one in records), default=0)
    return {
        "rows": rows,
        "along": [
            mean_of([one["along"][k] for one in records if len(one["along"]) > k])._asdict()
            for k in range(longest)
        ],
        "fingers": {
            "otherwise": mean_of([one["otherwise"] / one["steps"] for one in fingers])._asdict(),
            "closing": len(closing),
            "never": len(closing) - len(late),
            "late": mean_of(late)._asdict() if late else None,
        },
    }


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of one value an episode, with its interval; the same values give the same one."""
    found = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(0, len(found), (_DRAWS, len(found)))
    low, high = np.percentile(found[drawn].mean(1), (2.5, 97.5))
    return Mean(float(found.mean()), float(low), float(high), len(found))


def _first(true: NDArray[np.bool_]) -> int | None:
    return int(true.argmax()) if true.any() else None
