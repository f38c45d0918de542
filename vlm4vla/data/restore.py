"""Rendering stored episodes again: from seeds, actions and poses to a dataset with pictures.

An episode is carried out again. As long as robot and objects come out bit by bit as they are
stored, which on the same kind of machine is to the end, everything is taken from there. From the
first difference on, frames are drawn from the stored poses: pictures, positions and counts of
pixels are those of the stored moments, up to the renderer's rounding. Poses do not tell how fast
the finger tips moved, which the labels' second to fourth actions depend on a little: that is taken
from the repetition while it stays within `NEAR` of the stored poses, then predicted from the
executed actions by the measured controller (mean error 7 mm/s at a mean speed of 190 mm/s).

A file of `vlm4vla data store` says what every episode has to come out as. Where physics repeats
itself to the end, a few come out with other values on another kind of machine, whose velocities
round otherwise; if many do, it is this version that labels otherwise, and they are refused. Where
it does not, or a renderer rounds otherwise, the episode is kept and counted.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla import seeds
from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import Episode
from vlm4vla.data.demonstrator import Draw, drawn_of, noisy_steps
from vlm4vla.data.fill import Job, Progress, fill
from vlm4vla.data.lerobot import parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.lerobot.schema import EpisodeInfo, Recording
from vlm4vla.data.record import Frame, Rig, labelled, name_of
from vlm4vla.data.store import Expected, expected_of
from vlm4vla.episodes.parquet import import_
from vlm4vla.episodes.rows import STOPPED, Row
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import controller
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import NAME, POLICY_CAMERA, goal_of
from vlm4vla.suites.tabletop.types import State

NEAR: Final = 0.001
"""A repetition tells the finger tips' velocity while they are this near to where they were
(metres)."""

_A_FEW: Final = 3
"""Episodes from which on other values are judged: fewer may be chance."""

_ROUNDED: Final = 0.05
"""Share of repeated episodes whose values rounding may change. On another kind of processor than
the one that recorded `assets/rounds`, the first such episode was the 2,060th or so, with some
before it that did not repeat at all; another version changes most."""


def restore(
    file: Path,
    out: Path,
    workers: int,
    make_rig: Callable[[], Rig],
    report: Callable[[Progress], None],
) -> int | None:
    """Makes a dataset of the episodes in a file of `vlm4vla data store` or `episodes export`.

    Returns:
        How many episodes are bit for bit what was recorded, pictures and all; None where the file
        does not say what that was.

    Args:
        file: the episodes.
        out: the dataset's folder; may hold an interrupted restoration of the same episodes.
        workers: processes, each with a simulator of its own.
        make_rig: called once in each process; a module-level function or a partial of one.
        report: called after each episode.

    Raises:
        UserError: the file is damaged or holds episodes that no dataset can be made of, `out` holds
            other episodes than the file, many episodes' values come out as others than were
            recorded although they move as they did; or see `vlm4vla.data.fill.fill`.
    """
    table = EpisodeTable.in_memory()
    import_(file, table)
    rows = sorted(table.query(limit=table.count()), key=_place)
    _check(file, rows)
    expected = expected_of(file)
    job = Job(
        settings={
            "tasks": [task for task in TASKS if any(row.spec.task == task for row in rows)],
            "first_seed": min(_place(row)[0] for row in rows),
            "driver": ", ".join(sorted({name_of(row.agent) for row in rows})),
        },
        episodes=max(sum(row.spec.task == task for row in rows) for task in TASKS),
        total=len(rows),
        make=partial(_Restorer, out, make_rig),
        call=lambda index: (
            "restore",
            index,
            table.get(rows[index].id),
            expected.get(rows[index].id),
        ),
        check=partial(_refuse_another, file, out, rows),
    )
    fill(out, job, workers, report)
    if not expected:
        return None
    made = zip(rows, open_dataset(out).episodes, strict=True)
    return sum(expected[row.id].whole == episode.fingerprint for row, episode in made)


def restored(rig: Rig, episode: Episode) -> tuple[Recording, bool]:
    """The frames and labels of a stored episode, and whether it moved bit by bit as it is stored.

    Args:
        rig: environment and labels; its agent is not asked.
        episode: with its trace.

    Raises:
        UserError: the episode has no whole trace.
    """
    spec, steps = episode.spec, len(episode.actions)
    if not 0 < steps == len(episode.trace.joints) - 1 == len(episode.trace.poses) - 1:
        raise UserError(
            f"Episode {episode.id} has no pose for every step.", "Leave it out of the export."
        )
    trace = zip(episode.trace.joints, episode.trace.poses, strict=True)
    poses = [Pose(joints, objects) for joints, objects in trace]
    same, states = _repeat(rig.environment, episode, poses)
    frames = same + [_drawn(rig.environment, episode, pose) for pose in poses[len(same) : steps]]
    recording = labelled(
        spec,
        name_of(episode.agent),
        rig.plan,
        _with_velocities(frames, states, episode.actions),
        actions=episode.actions,
        noisy=noisy_steps(spec, steps),
        events=_events_of_steps(episode),
        success=episode.outcome.success,
    )
    return recording, len(same) == steps


def _with_velocities(
    frames: Sequence[Frame], states: Sequence[State], actions: NDArray[np.float32]
) -> list[Frame]:
    """The frames with the finger tips' velocity, the repetition's while that is near.

    Args:
        frames: T frames, whose velocities are not known yet.
        states: T states of the repetition.
        actions: (T, 7) executed ones.
    """
    known: list[Frame] = []
    velocity = np.zeros(3)
    for step, (frame, state) in enumerate(zip(frames, states, strict=True)):
        if np.abs(state.tcp - frame.state.tcp).max() <= NEAR:
            velocity = state.velocity.astype(np.float64)
        elif step:
            tip, action = frames[step - 1].state.tcp.astype(np.float64), actions[step - 1, :3]
            velocity = controller.respond(tip, velocity, action.astype(np.float64))[1]
        seen = replace(frame.state, velocity=velocity.astype(np.float32))
        known.append(frame._replace(state=seen))
    return known


def _events_of_steps(episode: Episode) -> list[set[str]]:
    """What happened in each step."""
    events: list[set[str]] = [set() for _ in episode.actions]
    for step, name in episode.events:
        if step:  # what is so before the first action is nobody's doing
            events[step - 1].add(name)
    return events


def _repeat(
    environment: Environment, episode: Episode, poses: list[Pose]
) -> tuple[list[Frame], list[State]]:
    """The frames while they are bit by bit the stored ones, and the states of all steps."""
    frames: list[Frame] = []
    states: list[State] = []
    seen = environment.reset(episode.spec, (POLICY_CAMERA,))
    for step, action in enumerate(episode.actions):
        states.append(environment.privileged())
        cameras: Collection[str] = ()
        if len(frames) == step and _equal(seen.pose, poses[step]):
            image = seen.observation.images[POLICY_CAMERA]
            frames.append(Frame(image, environment.segmentation(), states[-1]))
            cameras = (POLICY_CAMERA,)
        seen = environment.step(action, cameras)
    return frames, states


def _equal(found: Pose | None, stored: Pose) -> bool:
    return (
        found is not None
        and np.array_equal(found.joints, stored.joints)
        and np.array_equal(found.poses, stored.poses)
    )


def _drawn(environment: Environment, episode: Episode, pose: Pose) -> Frame:
    drawing = environment.draw(episode.spec, pose, (POLICY_CAMERA,), segmentation=True)
    assert drawing.segmentation is not None
    return Frame(drawing.images[POLICY_CAMERA], drawing.segmentation, drawing.privileged)


def _place(row: Row) -> tuple[int, int, str]:
    """The order of `vlm4vla.data.collect.Settings`: round by round, task by task."""
    task = next((place for place, task in enumerate(TASKS) if task == row.spec.task), 0)
    return row.spec.seed - task, task, row.id


def _check(file: Path, rows: list[Row]) -> None:
    if not rows:
        raise UserError(f"{file} holds no episodes.", "Export some: `vlm4vla episodes export`.")
    for row in rows:
        problem = _problem(row)
        if problem:
            raise UserError(
                f"Episode {row.id} in {file} {problem}.",
                "Export what was collected alone: `vlm4vla episodes export --kind collection`.",
            )


def _problem(row: Row) -> str:
    if row.spec.suite != NAME:
        return f"is of the suite {row.spec.suite}, not {NAME}"
    if row.spec.seed not in seeds.TRAIN:
        return f"has the seed {row.spec.seed}, which is not for training"
    if row.spec.parent or len(row.agents) > 1:
        return "was begun by another agent than it was ended by"
    if not row.spec.goal:
        return "has no goal"
    if row.outcome.kind == STOPPED:
        return "was stopped by a person"
    return ""


def _refuse_another(
    file: Path, out: Path, rows: list[Row], index: int, found: EpisodeInfo | None
) -> None:
    """Settings do not say which of their seeds a file holds."""
    if found is None or not _is_of(found, rows[index]):
        which = f", {found.task} of seed {found.seed}," if found else ""
        raise UserError(
            f"{out} holds other episodes than {file}: its episode {index}{which} is not the one "
            "that stands there.",
            "Choose another folder.",
        )


def _is_of(info: EpisodeInfo, row: Row) -> bool:
    """Whether it is what is known of the episode of a row, whichever versions made either."""
    spec = row.spec
    who = (info.task, info.seed, info.driver) == (spec.task, spec.seed, name_of(row.agent))
    what = (info.goal, info.instruction) == (goal_of(spec), spec.instruction)
    return who and what and Draw(info.noise, info.start) == drawn_of(spec)


class Rounding:
    """Tells a machine that rounds otherwise from a version that labels otherwise.

    Attributes:
        repeated: how many episodes moved bit by bit as they were recorded.
        other: how many of them came out with other values.
    """

    def __init__(self) -> None:
        self.repeated = self.other = 0

    def count(self, episode: str, same: bool) -> None:
        """Counts an episode that moved as it was recorded.

        Args:
            episode: its id.
            same: whether its values came out as they were recorded.

        Raises:
            UserError: too many did not.
        """
        self.repeated += 1
        self.other += not same
        if self.other >= _A_FEW and self.other > self.repeated * _ROUNDED:
            raise UserError(
                f"Episode {episode} moves as it did when it was recorded, and its labels or other "
                f"values come out as others: {self.other} of {self.repeated} such episodes.",
                "Restore it with the version of VLM4VLA that stored it, or collect anew.",
            )


class _Restorer:
    """What a process does: restores episodes into files."""

    def __init__(self, out: Path, make_rig: Callable[[], Rig]) -> None:
        self._out = out
        self._rig = make_rig()
        self._rounding = Rounding()

    def restore(self, index: int, episode: Episode, expected: Expected | None) -> int:
        """Writes an episode's part and returns its number of frames."""
        recording, repeated = restored(self._rig, episode)
        if repeated and expected:
            same = recording.fingerprint_of_values() == expected.values
            self._rounding.count(episode.id, same)
        parts.write_part(self._out, index, recording)
        return len(recording)
