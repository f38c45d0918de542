"""The inferences of an episode, drawn again from its trace: what a policy saw, and the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm4vla.attribution.inputs import Cells, Question
from vlm4vla.attribution.scene import regions, things
from vlm4vla.core.environment import Environment, Painter, Pose
from vlm4vla.core.episode import Episode, EpisodeSpec
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.suite import NAME, POLICY_CAMERA, goal_of
from vlm4vla.suites.tabletop.types import State

_MILLIMETRES: Final = 100.0
"""What an action of 1.0 commands."""


@dataclass(frozen=True)
class Inference:
    """An inference of a tabletop episode.

    Attributes:
        spec: of the episode.
        step: the control step that it was made at.
        pose: of robot and movable things then.
        question: what the policy was asked.
        regions: masks (H, W) by their part in the goal, see `vlm4vla.attribution.scene.regions`;
            empty where nothing is asked for that can be judged.
        things: masks (H, W) of the things that can be seen, by name.
        names: of all things, the movable ones first.
    """

    spec: EpisodeSpec
    step: int
    pose: Pose
    question: Question
    regions: dict[str, Cells]
    things: dict[str, Cells]
    names: tuple[str, ...]


def draw_inference(painter: Painter, spec: EpisodeSpec, pose: Pose, step: int = 0) -> Inference:
    """An inference whose picture is drawn from a stored pose. The running episode is lost.

    Args:
        painter: who draws: an environment, or `vlm4vla.ablation.given.GivenPainter` for what a
            policy was given.
        spec: of the episode.
        pose: of robot and movable things.
        step: the control step that it was made at.

    Raises:
        UserError: the suite cannot draw.
    """
    drawn = painter.draw(spec, pose, [POLICY_CAMERA], segmentation=True)
    truth: State = drawn.privileged
    if drawn.segmentation is None:
        raise UserError("The simulator has no segmentation of this picture.")
    masks = regions(spec, drawn.segmentation, truth.names) if spec.goal else {}
    return Inference(
        spec,
        step,
        pose,
        Question(drawn.images[POLICY_CAMERA], spec.instruction),
        masks,
        things(drawn.segmentation, truth.names),
        truth.names,
    )


def first_inference(environment: Environment, spec: EpisodeSpec) -> Inference:
    """The first inference of an episode, which no policy has influenced yet.

    Raises:
        UserError: the simulator tells no poses, or the suite cannot draw.
    """
    pose = environment.reset(spec).pose
    if pose is None:
        raise UserError("The simulator does not tell poses.")
    return draw_inference(environment, spec, pose)


def inference_of(painter: Painter, episode: Episode, step: int) -> Inference:
    """The inference that a stored episode's action of some control step comes from.

    Its sentence is the episode's own, and its picture the painter's.

    Raises:
        UserError: see `inferred_at`, or the suite cannot draw.
    """
    made = inferred_at(episode, step)
    return draw_inference(painter, episode.spec, pose_at(episode, made), made)


def inferred_at(episode: Episode, step: int) -> int:
    """The control step of the inference that an action of some control step comes from.

    Raises:
        UserError: the episode is of another suite, keeps no poses, or has no such step.
    """
    if episode.spec.suite != NAME or not len(episode.trace.joints):
        raise UserError(
            "This episode cannot be drawn: it is of another suite, or its poses are not kept.",
            f"Choose one of the suite {NAME}.",
        )
    steps = [one.step for one in episode.predictions if one.step <= step]
    if not steps or not 0 <= step < episode.steps:
        # A branch repeats its parent's actions at first, and infers nothing meanwhile.
        first = min((one.step for one in episode.predictions), default=0)
        raise UserError(
            f"The episode has no inference for step {step}.",
            f"Choose {first} to {episode.steps - 1}.",
        )
    return steps[-1]


def pose_at(episode: Episode, step: int) -> Pose:
    """Robot and movable things at a control step of a stored episode."""
    return Pose(episode.trace.joints[step], episode.trace.poses[step])


def apart(environment: Environment, episode: Episode) -> Sequence[float]:
    """How far policy and expert are apart at each inference, millimetres.

    It is the distance between where the predicted first action sends the hand and where the
    expert's would, who sees the true state of the same moment and pursues the episode's goal.

    Raises:
        UserError: the episode has no goal, or the suite cannot draw.
    """
    goal = goal_of(episode.spec)
    found = []
    for one in episode.predictions:
        state = environment.draw(episode.spec, pose_at(episode, one.step)).privileged
        # A pose has no speed; the expert's first action does not ask for it.
        asked = expert.plan(state, goal, 1)[0]
        found.append(float(np.linalg.norm(one.chunk[0, :3] - asked[:3])) * _MILLIMETRES)
    return found


def parting(distances: Sequence[float]) -> int | None:
    """The later inference at which policy and expert are furthest apart; None if there is none."""
    return int(np.argmax(distances[1:])) + 1 if len(distances) > 1 else None
