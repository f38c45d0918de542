"""The motion of a tabletop episode from its row: who stood where, and where the fingers were."""

from typing import Final

import numpy as np

from vlm4vla.core.episode import Episode
from vlm4vla.core.motion import Footprint, Motion
from vlm4vla.core.observation import Array
from vlm4vla.suites.tabletop.changes import gone_at
from vlm4vla.suites.tabletop.kinematics import finger_tips
from vlm4vla.suites.tabletop.scene import (
    CONTAINER_RADIUS,
    FLOOR_THICKNESS,
    ZONE_HALF_SIZE,
    FixtureSpec,
    ObjectSpec,
    Scene,
)
from vlm4vla.suites.tabletop.vocabulary import COLOURS, colour_of

TABLE: Final = ((-0.26, 0.16), (-0.22, 0.22))
"""Everything that a scene holds lies here, world frame, metres."""

_LIFTS: Final = ("pick", "place", "stack")


def motion_of(episode: Episode, scene: Scene) -> Motion | None:
    """The motion of an episode; None where it has no goal, no whole trace, or something was gone.

    Args:
        episode: what happened.
        scene: where it began.
    """
    goal, trace = episode.spec.goal, episode.trace
    names = [item.name for item in scene.objects] + [place.name for place in scene.fixtures]
    moving = len(scene.objects)
    moments = len(episode.actions) + 1
    whole = trace.joints.shape == (moments, 9) and trace.poses.shape == (moments, moving, 7)
    # Being taken away is no motion of the episode's own.
    gone = gone_at(episode.spec.condition.perturbations, episode.steps)
    if goal.get("object") not in names[:moving] or not whole or gone:
        return None
    named = names.index(goal["object"])
    target = names.index(goal["target"]) if goal.get("target") in names else None
    poses = trace.poses
    return Motion(
        table=TABLE,
        things=(*map(_object, scene.objects), *map(_fixture, scene.fixtures)),
        positions=poses[..., :3],
        yaws=_yaws(poses[..., 3:]),
        tilts=_tilts(poses[..., 3:], np.array([item.shape == "ball" for item in scene.objects])),
        fixed=np.array([(place.x, place.y) for place in scene.fixtures], np.float32).reshape(-1, 2),
        gripper=finger_tips(trace.joints),
        opening=trace.joints[:, -2:].sum(axis=1),
        opens=np.concatenate([[True], episode.actions[:, -1] > 0]),
        named=named,
        target=target,
        lifts=goal.get("task") in _LIFTS,
        outside=_outside(poses[..., :3], scene, named, target),
        above=_above(poses[..., :3], scene, named, target),
    )


def _object(item: ObjectSpec) -> Footprint:
    return Footprint(item.name, item.shape != "cube", (item.size, item.size), _colour(item.name))


def _fixture(place: FixtureSpec) -> Footprint:
    wide = place.kind == "zone"
    x, y = ZONE_HALF_SIZE if wide else (CONTAINER_RADIUS, CONTAINER_RADIUS)
    return Footprint(place.name, not wide, (2 * x, 2 * y), _colour(place.name))


def _colour(name: str) -> str:
    """The colour of a thing as a screen shows it: sRGB from the renderer's linear values."""
    linear = np.array(COLOURS[colour_of(name)])
    shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in shown)


def _yaws(turns: Array) -> Array:
    w, x, y, z = np.moveaxis(turns, -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def _tilts(turns: Array, balls: Array) -> Array:
    _, x, y, _ = np.moveaxis(turns, -1, 0)
    cosine = np.clip(1 - 2 * (x * x + y * y), -1, 1)
    return np.where(balls, 0, np.degrees(np.arccos(cosine))).astype(np.float32)


def _outside(positions: Array, scene: Scene, named: int, target: int | None) -> Array:
    """See `Motion.outside`; what counts as within is what `tasks` asks of a success."""
    if target is None:
        return np.zeros(len(positions), np.float32)
    moving = len(scene.objects)
    if target < moving:
        offset = positions[:, named, :2] - positions[:, target, :2]
        radius = scene.objects[target].size / 2
    else:
        place = scene.fixtures[target - moving]
        offset = positions[:, named, :2] - np.array((place.x, place.y), np.float32)
        if place.kind == "zone":
            beyond = np.maximum(np.abs(offset) - np.array(ZONE_HALF_SIZE, np.float32), 0)
            return np.linalg.norm(beyond, axis=1)
        radius = CONTAINER_RADIUS - 0.005
    return np.maximum(np.linalg.norm(offset, axis=1) - radius, 0)


def _above(positions: Array, scene: Scene, named: int, target: int | None) -> Array:
    """See `Motion.above`."""
    half = scene.objects[named].size / 2
    height = positions[:, named, 2] - half
    moving = len(scene.objects)
    if target is None:
        return height
    if target < moving:
        return height - positions[:, target, 2] - scene.objects[target].size / 2
    kind = scene.fixtures[target - moving].kind
    return height - (0.0 if kind == "zone" else FLOOR_THICKNESS)
