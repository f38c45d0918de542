"""The truth of a tabletop picture: which pixels are whose, and the picture without a thing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.attribution.inputs import Cells
from vlm4vla.core.environment import Painter, Pose
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Image
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS, ROBOT

_AWAY: Final = -10.0
"""Height in metres at which no camera sees a thing, and it throws no shadow on the table."""


def regions(
    spec: EpisodeSpec, segmentation: NDArray[np.int16], names: Sequence[str]
) -> dict[str, Cells]:
    """Masks (H, W) that part the picture by truth: "object" is the goal's, "goal" its place.

    What a goal does not have is left out; "others" are the distractors.

    Args:
        spec: whose goal.
        segmentation: (H, W), see `vlm4vla.suites.tabletop.types.Snapshot`.
        names: of the things in it, in the order of the true state.

    Raises:
        UserError: the episode has no goal.
    """
    goal = goal_of(spec)
    named = {"object": goal.object, "goal": goal.target}
    found = {
        part: segmentation == names.index(name) for part, name in named.items() if name is not None
    }
    found |= {"gripper": segmentation == FINGERS, "robot": segmentation == ROBOT}
    others = [i for i, name in enumerate(names) if name not in named.values()]
    return found | {
        "others": np.isin(segmentation, others),
        "background": segmentation == BACKGROUND,
    }


def things(segmentation: NDArray[np.int16], names: Sequence[str]) -> dict[str, Cells]:
    """Masks (H, W) of the things that can be seen, by name."""
    masks = {name: segmentation == index for index, name in enumerate(names)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def drawn_without(
    painter: Painter, spec: EpisodeSpec, pose: Pose, names: Sequence[str]
) -> dict[str, Image]:
    """The policy camera's picture (H, W, 3) drawn again without each movable thing, by name.

    Fixtures stand where the scene has them and cannot be moved. The running episode is lost.

    Args:
        painter: who draws.
        spec: the episode.
        pose: robot and movable things.
        names: of the movable things, in the pose's order.

    Raises:
        UserError: the suite cannot draw.
    """
    found = {}
    for index, name in enumerate(names[: len(pose.poses)]):
        poses = pose.poses.copy()
        poses[index, 2] = _AWAY
        drawing = painter.draw(spec, replace(pose, poses=poses), [POLICY_CAMERA])
        found[name] = drawing.images[POLICY_CAMERA]
    return found
