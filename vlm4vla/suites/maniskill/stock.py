"""Any stock ManiSkill environment behind the suite's interface, with its fixed instruction."""

import time
from typing import Any, Final, cast

import gymnasium
import mani_skill.envs  # noqa: F401  (registers the environments)
import numpy as np

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.types import (
    POLICY_PIXELS,
    VIEW_PIXELS,
    Array,
    Event,
    Image,
    Observation,
    Pictures,
    State,
)

CONTROL_MODE: Final = "pd_ee_delta_pose"
TIME_LIMIT: Final = 100

INSTRUCTIONS: Final[dict[str, str]] = {
    "PickCube-v1": "pick up the red cube and hold it at the goal",
    "PushCube-v1": "push the blue cube to the target",
    "PullCube-v1": "pull the blue cube to the target",
    "StackCube-v1": "stack the red cube on the green cube",
    "StackPyramid-v1": "build a pyramid with the three cubes",
    "LiftPegUpright-v1": "stand the peg upright",
    "PlaceSphere-v1": "put the blue ball into the bin",
    "PokeCube-v1": "poke the cube with the peg",
    "PullCubeTool-v1": "pull the cube closer with the tool",
    "RollBall-v1": "roll the ball into the goal",
    "PegInsertionSide-v1": "insert the peg into the hole",
    "PlugCharger-v1": "plug the charger into the receptacle",
}
"""What the known environments ask for; any other environment needs a sentence of the user's."""


def stock_scene(seed: int) -> Scene:
    """The scene of a seed: the environment itself decides what stands where."""
    return Scene("stock", seed, (), ())


def stock_goal(environment: str, instruction: str | None = None) -> tuple[Goal, str]:
    """The goal of a stock environment and the sentence for it.

    Raises:
        UserError: the environment has no fixed instruction and none was given.
    """
    sentence = instruction or INSTRUCTIONS.get(environment)
    if sentence is None:
        raise UserError(
            f"No instruction is known for {environment!r}.",
            f"Give one, or choose one of {', '.join(INSTRUCTIONS)}.",
        )
    return Goal("stock", environment), sentence


class Stock:
    """A stock environment as a `vlm4vla.suites.tabletop.types.Simulator`.

    Args:
        environment: its id, such as "StackCube-v1".

    Raises:
        UserError: ManiSkill does not know it, it cannot be driven by end-effector deltas, or its
            assets are not installed.
    """

    def __init__(self, environment: str) -> None:
        try:
            made = gymnasium.make(
                environment,
                obs_mode="none",
                reward_mode="none",
                control_mode=CONTROL_MODE,
                sim_backend="physx_cpu",
                render_backend="sapien_cpu",
                sensor_configs={"width": POLICY_PIXELS, "height": POLICY_PIXELS},
                human_render_camera_configs={"width": VIEW_PIXELS, "height": VIEW_PIXELS},
            )
        except gymnasium.error.Error as error:
            raise UserError(
                f"ManiSkill has no environment {environment!r}: {error}",
                f"Known to work: {', '.join(INSTRUCTIONS)}.",
            ) from error
        except EOFError as error:
            raise UserError(
                f"{environment} needs assets that are not installed.",
                f"Run `python -m mani_skill.utils.download_asset {environment}`.",
            ) from error
        except (KeyError, AssertionError, NotImplementedError) as error:
            raise UserError(
                f"{environment} cannot be driven by {CONTROL_MODE}: {error}",
                f"Known to work: {', '.join(INSTRUCTIONS)}.",
            ) from error
        self._env = cast(Any, made.unwrapped)
        self._policy = next(iter(self._env._sensors.values()))
        self._view = next(iter(self._env._human_render_cameras.values()))
        self._step = 0
        self._succeeded = False

    def reset(
        self,
        scene: Scene,
        goal: Goal,
        pictures: Pictures = Pictures(),
        start: tuple[float, float, float] | None = None,
        rival: Goal | None = None,
    ) -> Observation:
        """See `Simulator.reset`."""
        if start is not None or rival is not None:
            raise UserError("A stock environment has one start and one goal of its own.")
        self._env.reset(seed=scene.seed)
        self._step = 0
        self._succeeded = False
        return self._observe(False, 0.0, pictures)

    def step(self, action: Array, pictures: Pictures = Pictures()) -> Observation:
        """See `Simulator.step`."""
        began = time.perf_counter()
        *_, info = self._env.step(np.asarray(action, dtype=np.float32))
        self._step += 1
        elapsed = (time.perf_counter() - began) * 1e3
        return self._observe(bool(info.get("success", False)), elapsed, pictures)

    def set_goal(self, goal: Goal) -> None:
        """See `Simulator.set_goal`."""
        raise UserError("A stock environment holds one task; its goal cannot be switched.")

    def close(self) -> None:
        """See `Simulator.close`."""
        self._env.close()

    def _observe(self, success: bool, physics_ms: float, pictures: Pictures) -> Observation:
        events: list[Event] = []
        if success and not self._succeeded:
            events.append("success")
        if self._step >= TIME_LIMIT and not success:
            events.append("timeout")
        self._succeeded = self._succeeded or success
        began = time.perf_counter()
        if pictures.image or pictures.view:
            self._env.scene.sub_scenes[0].update_render()
        image = _picture(self._policy) if pictures.image else None
        view = _picture(self._view) if pictures.view else None
        return Observation(
            step=self._step,
            state=self._state(),
            image=image,
            view=view,
            segmentation=None,
            events=tuple(events),
            success=success,
            rival=False,
            done=success or self._step >= TIME_LIMIT,
            physics_ms=physics_ms,
            render_ms=(time.perf_counter() - began) * 1e3,
        )

    def _state(self) -> State:
        tcp = self._env.agent.tcp
        qpos = self._env.agent.robot.get_qpos()[0]
        empty = np.zeros((0, 3), dtype=np.float32)
        return State(
            tcp=tcp.pose.p[0].numpy(),
            velocity=tcp.linear_velocity[0].numpy(),
            opening=float(qpos[-1] + qpos[-2]),
            names=(),
            positions=empty,
            sizes=np.zeros(0, dtype=np.float32),
            movable=0,
        )


def _picture(sensor: Any) -> Image:
    lens = sensor.camera._render_cameras[0]
    lens.take_picture()
    return np.ascontiguousarray(lens.get_picture("Color")[..., :3])
