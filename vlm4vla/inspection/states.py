"""The true state at every step of a stored episode, from its trace alone; needs no simulator."""

import numpy as np

from vlm4vla.core.episode import Episode
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import controller
from vlm4vla.suites.tabletop.kinematics import finger_tips
from vlm4vla.suites.tabletop.scene import CONTAINER_RADIUS, ZONE_HALF_SIZE
from vlm4vla.suites.tabletop.suite import NAME, scene_of
from vlm4vla.suites.tabletop.types import State


def states_of(episode: Episode) -> list[State]:
    """The T + 1 true states of an episode of T steps.

    A trace holds no speeds: that of the finger tips comes from the executed actions by the measured
    controller, as in `vlm4vla.data.restore`; at the start it is 0.

    Raises:
        UserError: the episode is of another suite, or has no pose for every step.
    """
    if episode.spec.suite != NAME:
        raise UserError(
            f"Episodes of the suite {episode.spec.suite} have no true positions here.",
            f"Choose one of the suite {NAME}.",
        )
    scene = scene_of(episode.spec)
    joints, poses = episode.trace.joints, episode.trace.poses
    if joints.shape != (episode.steps + 1, 9) or poses.shape[:2] != (
        episode.steps + 1,
        len(scene.objects),
    ):
        raise UserError(
            f"Episode {episode.id} has no pose for every step.",
            "It was recorded by an earlier version: run it again.",
        )
    places = np.array([(f.x, f.y, 0.0) for f in scene.fixtures], np.float32).reshape(-1, 3)
    names = (*(one.name for one in scene.objects), *(one.name for one in scene.fixtures))
    sizes = np.array(
        [thing.size for thing in scene.objects]
        + [
            2 * (ZONE_HALF_SIZE[1] if place.kind == "zone" else CONTAINER_RADIUS)
            for place in scene.fixtures
        ],
        np.float32,
    )
    tips = finger_tips(joints).astype(np.float64)
    velocity = np.zeros(3)
    states = []
    for step, tip in enumerate(tips):
        if step:
            action = episode.actions[step - 1, :3].astype(np.float64)
            velocity = controller.respond(tips[step - 1], velocity, action)[1]
        states.append(
            State(
                tcp=tip.astype(np.float32),
                velocity=velocity.astype(np.float32),
                opening=float(joints[step, -2:].sum()),
                names=names,
                positions=np.concatenate([poses[step, :, :3], places]).astype(np.float32),
                sizes=sizes,
                movable=len(scene.objects),
            )
        )
    return states
