"""Any stock ManiSkill environment that is driven by end-effector deltas."""

import time
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

import gymnasium
import mani_skill.envs  # noqa: F401  (registers the environments)
import numpy as np
import sapien
from numpy.typing import NDArray

from vlm4vla.action import ActionSpec
from vlm4vla.core.environment import Drawing, Pose, Transition, checked_action
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError
from vlm4vla.suites.maniskill.suite import INSTRUCTIONS, TIME_LIMIT, ManiskillSuite
from vlm4vla.system.vulkan import ensure_driver

CONTROL_MODE: Final = "pd_ee_delta_pose"

_PIXELS: Final = {"policy": 128, "view": 384}
"""Side of each camera's square picture."""


def open_environment() -> "StockEnvironment":
    """The suite's environment in this process.

    Raises:
        UserError: there is no Vulkan driver.
    """
    ensure_driver()
    return StockEnvironment()


class StockEnvironment:
    """The stock environment that the specification names; see `Environment`.

    One is kept at a time: a specification of another one replaces it.
    """

    perturbations: tuple[str, ...] = ()
    action: ActionSpec = ManiskillSuite().action

    def __init__(self) -> None:
        self._name = ""
        self._env: Any = None
        self._step = 0
        self._succeeded = False

    def reset(self, spec: EpisodeSpec, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.reset`.

        Raises:
            UserError: ManiSkill does not know the environment, it cannot be driven by
                end-effector deltas, or its assets are not installed.
        """
        self._make(spec.task)
        self._env.reset(seed=spec.seed)
        self._step = 0
        self._succeeded = False
        return self._told(False, 0.0, cameras)

    def step(self, action: Array, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.step`."""
        if self._env is None:
            raise UserError("The simulator has no episode.", "Call reset() before step().")
        action = checked_action(action, 7)
        began = time.perf_counter()
        *_, info = self._env.step(action)
        self._step += 1
        elapsed = (time.perf_counter() - began) * 1e3
        return self._told(bool(info.get("success", False)), elapsed, cameras)

    def privileged(self) -> Any:
        """A stock environment's truth has no common form; see `Environment.privileged`."""
        raise UserError(f"{self._name or 'A stock environment'} tells no true state.")

    def segmentation(self) -> NDArray[np.int16]:
        """See `privileged`."""
        raise UserError(f"{self._name or 'A stock environment'} tells no segmentation.")

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        """See `Environment.draw`."""
        if segmentation:
            self.segmentation()
        self._make(spec.task)
        self._env.reset(seed=spec.seed)
        self._env.agent.robot._objs[0].qpos = pose.joints
        for actor, (x, y, z, *rotation) in zip(self._movable(), pose.poses, strict=True):
            actor._objs[0].pose = sapien.Pose([x, y, z], rotation)
        return Drawing(self._images(cameras), None, None)

    def close(self) -> None:
        """See `Environment.close`."""
        if self._env is not None:
            self._env.close()

    def _make(self, name: str) -> None:
        if name == self._name:
            return
        try:
            made = gymnasium.make(
                name,
                obs_mode="none",
                reward_mode="none",
                control_mode=CONTROL_MODE,
                sim_backend="physx_cpu",
                render_backend="sapien_cpu",
                sensor_configs={"width": _PIXELS["policy"], "height": _PIXELS["policy"]},
                human_render_camera_configs={"width": _PIXELS["view"], "height": _PIXELS["view"]},
            )
        except gymnasium.error.Error as error:
            raise UserError(
                f"ManiSkill has no environment {name!r}: {error}",
                f"Known to work: {', '.join(INSTRUCTIONS)}.",
            ) from error
        except EOFError as error:
            raise UserError(
                f"{name} needs assets that are not installed.",
                f"Run `python -m mani_skill.utils.download_asset {name}`.",
            ) from error
        except (KeyError, AssertionError, NotImplementedError) as error:
            raise UserError(
                f"{name} cannot be driven by {CONTROL_MODE}: {error}",
                f"Known to work: {', '.join(INSTRUCTIONS)}.",
            ) from error
        self.close()
        self._env = cast(Any, made.unwrapped)
        self._name = name
        self._lenses = {
            "policy": next(iter(self._env._sensors.values())),
            "view": next(iter(self._env._human_render_cameras.values())),
        }

    def _movable(self) -> list[Any]:
        actors: Mapping[str, Any] = self._env.scene.actors
        return [actors[name] for name in sorted(actors) if actors[name].px_body_type == "dynamic"]

    def _told(self, success: bool, physics_ms: float, cameras: Collection[str]) -> Transition:
        events = []
        if success and not self._succeeded:
            events.append("success")
        if self._step >= TIME_LIMIT and not success:
            events.append("timeout")
        self._succeeded = self._succeeded or success
        began = time.perf_counter()
        images = self._images(cameras)
        qpos = self._env.agent.robot.get_qpos()[0].numpy()
        tips = self._env.agent.tcp.pose.p[0].numpy()
        things = [actor._objs[0].pose for actor in self._movable()]
        poses = np.array([[*pose.p, *pose.q] for pose in things], np.float32).reshape(-1, 7)
        return Transition(
            observation=Observation(
                self._step, images, np.array([*tips, qpos[-1] + qpos[-2]], np.float32)
            ),
            events=tuple(events),
            success=success,
            done=success or self._step >= TIME_LIMIT,
            pose=Pose(qpos.astype(np.float32), poses),
            physics_ms=physics_ms,
            render_ms=(time.perf_counter() - began) * 1e3,
        )

    def _images(self, cameras: Collection[str]) -> dict[str, Image]:
        wanted = [name for name in self._lenses if name in cameras]
        if wanted:
            self._env.scene.sub_scenes[0].update_render()
        return {name: _picture(self._lenses[name]) for name in wanted}


def _picture(sensor: Any) -> Image:
    lens = sensor.camera._render_cameras[0]
    lens.take_picture()
    return np.ascontiguousarray(lens.get_picture("Color")[..., :3])
