"""The gate that data must pass: stored labels, replayed open loop, must solve the task.

An episode that was recorded without noise is set up again from its seed. At every inference the
label is taken from the dataset if the episode visited this state (`TOLERANCE`), else asked of the
expert exactly as the collector asked for it. All four actions of the label are carried out blindly,
after going through the scaling to training targets and back; then comes the next inference. What
fails here cannot be learned: the labels would be wrong, too coarse for four blind steps, or damaged
on the way through storage and scaling.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from vlm4vla.action import ActionSpec
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.core.observation import Array, Observation
from vlm4vla.core.rollout import rollout
from vlm4vla.data.demonstrator import Draw, Planner, condition_of
from vlm4vla.data.lerobot.reader import Dataset
from vlm4vla.data.lerobot.schema import CHUNK, EpisodeInfo, Recording
from vlm4vla.errors import UserError
from vlm4vla.statistics import wilson
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.suite import NAME
from vlm4vla.suites.tabletop.types import State

PASS_RATE: Final = 0.9
"""Smallest success rate with which a task passes."""

TOLERANCE: Final = 0.005
"""A state was visited if the finger tips, the finger opening and every thing are this near to a
recorded frame (metres)."""


@dataclass(frozen=True)
class Outcome:
    """How one replay went.

    Attributes:
        seed: the scene's seed.
        success: the goal's condition held before the time was up.
        wrong_object: another object was grasped or displaced.
        looks: how many labels were carried out.
        stored: how many of them came from the dataset.
    """

    seed: int
    success: bool
    wrong_object: bool
    looks: int
    stored: int


def candidates(dataset: Dataset, task: Task, count: int) -> list[int]:
    """The first `count` episodes of a task that show the expert undisturbed, from its usual start.

    Raises:
        UserError: the dataset has fewer.
    """
    found = [
        row.index
        for row in dataset.episodes
        if row.info is not None
        and row.info.task == task
        and row.info.driver == "expert"
        and row.info.noise == 0
        and row.info.start is None
    ]
    if len(found) < count:
        raise UserError(
            f"{dataset.root} has {len(found)} undisturbed episodes of {task}, not {count}.",
            f"Ask for --episodes {len(found)}, or collect more." if found else "Collect some.",
        )
    return found[:count]


class Replayer:
    """The labels of a recording as an agent; needs the true state to know which label is due.

    See `vlm4vla.core.agent.Agent` and `vlm4vla.core.agent.PrivilegedAgent`.

    Args:
        plan: the expert, for states that the recording has no label for.
        recording: the episode.
        spec: the scaling that labels go through on their way into and out of a model.

    Attributes:
        looks: how many labels it gave.
        stored: how many of them came from the recording.
    """

    identity: AgentId = AgentId("expert", "labels", "stored labels")
    replan_every: int = CHUNK
    cameras: tuple[str, ...] = ()
    action: ActionSpec | None = None

    def __init__(self, plan: Planner, recording: Recording, spec: ActionSpec) -> None:
        self.looks = self.stored = 0
        self._plan = plan
        self._recording = recording
        self._spec = spec
        self._followed = recording.info.goals.index(str(recording.info.goal))
        self._environment: Environment | None = None

    def watch(self, environment: Environment) -> None:
        """See `PrivilegedAgent.watch`."""
        self._environment = environment

    def reset(self, instruction: str) -> None:
        """See `Agent.reset`.

        Raises:
            UserError: the episode begins otherwise than was recorded.
        """
        info, state = self._recording.info, self._state()
        if info.things != state.names or _visited(self._recording, state) != 0:
            raise UserError(
                f"Seed {info.seed} of {info.task} does not give the beginning that was recorded: "
                "the simulator or the scenes have changed.",
                "Collect the dataset again with this version.",
            )
        self.looks = self.stored = 0

    def act(self, observation: Observation) -> Array:
        """See `Agent.act`; four actions of (7,)."""
        state = self._state()
        frame = _visited(self._recording, state)
        self.looks += 1
        self.stored += frame is not None
        if frame is None:
            label = self._plan(state, self._recording.info.goal, CHUNK)
        else:
            label = self._recording.chunks[frame, self._followed]
        return as_learned(label, self._spec)

    def _state(self) -> State:
        if self._environment is None:
            raise UserError("The labels have no environment.", "Call watch() first.")
        state: State = self._environment.privileged()
        return state


def replay(
    environment: Environment, plan: Planner, recording: Recording, spec: ActionSpec
) -> Outcome:
    """Sets a recorded episode up again and solves it with labels alone; see `Replayer`.

    Args:
        environment: where to carry the actions out.
        plan: the expert.
        recording: the episode.
        spec: the scaling of labels.

    Raises:
        UserError: the seed gives another beginning than was recorded.
    """
    agent = Replayer(plan, recording, spec)
    seen = [step.transition for step in rollout(environment, agent, spec_of(recording.info))]
    wrong = any("wrong_object" in transition.events for transition in seen)
    return Outcome(recording.info.seed, seen[-1].success, wrong, agent.looks, agent.stored)


def spec_of(info: EpisodeInfo) -> EpisodeSpec:
    """The specification under which a recorded episode begins as it did."""
    condition = condition_of(Draw(0.0, info.start), expert=False)
    return EpisodeSpec(NAME, info.task, info.seed, info.instruction, asdict(info.goal), condition)


def as_learned(label: Array, spec: ActionSpec) -> Array:
    """A label as a perfect model would give it back: (n, 7) to targets and to actions again."""
    targets = spec.normalise(label)
    return spec.unnormalise(targets.arm, 2 * targets.gripper - 1)


def _visited(recording: Recording, state: State) -> int | None:
    """The recorded frame nearest to a state, if it is within the tolerance."""
    here = np.concatenate([state.tcp, [state.opening], state.positions.ravel()])
    frames = np.concatenate(
        [recording.state, recording.positions.reshape(len(recording), -1)], axis=1
    )
    away = np.abs(frames - here).max(axis=1)
    nearest = int(away.argmin())
    return nearest if away[nearest] <= TOLERANCE else None


def gate(
    dataset: Dataset,
    tasks: Sequence[Task],
    count: int,
    environment: Environment,
    plan: Planner,
    spec: ActionSpec,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Replays `count` episodes of each task.

    Args:
        dataset: made by `vlm4vla collect`.
        tasks: which tasks to replay.
        count: episodes of each.
        environment: where to replay them.
        plan: the expert.
        spec: the scaling between actions and training targets.
        report: called with a line of text after each task.

    Returns:
        {"first_seed", "tasks": {task: {"n", "successes", "rate", "ci95", "wrong_object",
        "stored_labels", "failed_seeds"}}}; all shares are within 0..1.

    Raises:
        UserError: the dataset has too few undisturbed episodes, is damaged, or was recorded in
            other scenes than its seeds give now.
    """
    chosen = {task: candidates(dataset, task, count) for task in tasks}
    rows: dict[str, Any] = {}
    first_seed = None
    for task, episodes in chosen.items():
        outcomes = [
            replay(environment, plan, dataset.recording(episode), spec) for episode in episodes
        ]
        first_seed = min(one.seed for one in outcomes) if first_seed is None else first_seed
        rate = wilson(sum(one.success for one in outcomes), len(outcomes))
        rows[task] = {
            "n": rate.n,
            "successes": rate.successes,
            "rate": rate.rate,
            "ci95": [rate.low, rate.high],
            "wrong_object": sum(one.wrong_object for one in outcomes) / len(outcomes),
            "stored_labels": sum(o.stored for o in outcomes) / sum(o.looks for o in outcomes),
            "failed_seeds": [one.seed for one in outcomes if not one.success],
        }
        report(describe(task, rows[task]))
    return {"first_seed": first_seed, "tasks": rows}


def describe(task: str, row: dict[str, Any]) -> str:
    """One line about a task's row of `gate`."""
    verdict = "passes" if row["rate"] >= PASS_RATE else "FAILS"
    return (
        f"{task}: {row['successes']}/{row['n']} ({row['rate']:.1%}, 95 % interval "
        f"{row['ci95'][0]:.1%} to {row['ci95'][1]:.1%}), {row['stored_labels']:.0%} of the labels "
        f"from the dataset: {verdict}"
    )
