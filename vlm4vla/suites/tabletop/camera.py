"""Where the pictures are taken from."""

from typing import Final

import numpy as np
import sapien
from mani_skill.sensors.camera import CameraConfig
from mani_skill.utils import sapien_utils
from mani_skill.utils.structs.pose import Pose

from vlm4vla.suites.tabletop.types import POLICY_PIXELS, VIEW_PIXELS

POLICY_PITCH: Final = 50.0
"""Degrees below the horizon."""

_POLICY_TARGET: Final = np.array([-0.10, 0.0, 0.026])
_POLICY_DISTANCE: Final = 2.0
_POLICY_FOV: Final = 0.20


def policy_camera() -> CameraConfig:
    """The one third-person camera that a policy sees: opposite the robot, 50 degrees down.

    At 128 pixels an object of 4 cm is 12 to 16 pixels wide.
    """
    pitch = np.radians(POLICY_PITCH)
    eye = _POLICY_TARGET + _POLICY_DISTANCE * np.array([np.cos(pitch), 0.0, np.sin(pitch)])
    return _camera("policy", eye, _POLICY_TARGET, POLICY_PIXELS, _POLICY_FOV)


def view_camera() -> CameraConfig:
    """The larger picture for people, with the whole arm in it."""
    return _camera(
        "view", np.array([0.60, 0.42, 0.66]), np.array([-0.18, -0.01, 0.07]), VIEW_PIXELS, 0.66
    )


def _camera(
    uid: str,
    eye: np.ndarray,
    target: np.ndarray,
    pixels: int,
    fov: float,
) -> CameraConfig:
    pose: Pose | sapien.Pose = sapien_utils.look_at(eye, target)
    return CameraConfig(uid, pose=pose, width=pixels, height=pixels, fov=fov, near=0.05, far=10.0)
