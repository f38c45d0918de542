"""The suite's cameras as ManiSkill takes them."""

from dataclasses import replace

import sapien
from mani_skill.render import PREBUILT_SHADER_CONFIGS, ShaderConfig, set_shader_pack
from mani_skill.sensors.camera import CameraConfig
from mani_skill.utils import sapien_utils

from vlm4vla.suites.tabletop.projection import POLICY_LENS, VIEW_LENS, Lens
from vlm4vla.suites.tabletop.types import POLICY_PIXELS, VIEW_PIXELS
from vlm4vla.system import shaders


def policy_camera() -> CameraConfig:
    """The one third-person camera that a policy sees; see `POLICY_LENS`."""
    return _camera("policy", POLICY_LENS, POLICY_PIXELS)


def view_camera() -> CameraConfig:
    """The larger picture for people; see `VIEW_LENS`."""
    return _camera("view", VIEW_LENS, VIEW_PIXELS)


def pose_of(lens: Lens) -> sapien.Pose:
    """Where a lens is and looks, as SAPIEN takes it."""
    return sapien_utils.look_at(lens.eye, lens.target).sp


def _camera(uid: str, lens: Lens, pixels: int) -> CameraConfig:
    return CameraConfig(
        uid,
        pose=pose_of(lens),
        width=pixels,
        height=pixels,
        fov=lens.fov,
        near=0.05,
        far=10.0,
        shader_config=_shaders(),
    )


def _shaders() -> ShaderConfig:
    stock = PREBUILT_SHADER_CONFIGS[shaders.STOCK]
    # ManiSkill sets the formats of its pictures for the stock name alone.
    set_shader_pack(stock)
    return replace(stock, shader_pack=shaders.without_reflection())
