"""The tabletop suite as ManiSkill environments, and the simulator that drives them.

`gymnasium.make("VLM4VLA-Pick-v1", ...)` gives an ordinary ManiSkill environment. `Tabletop` wraps
one for this project: scenes and goals by name, pictures only when asked for, events.
"""

import time
from collections.abc import Collection
from typing import Any, Final

import numpy as np
import sapien
import sapien.physx
import sapien.render
import torch
from mani_skill.envs.sapien_env import BaseEnv
from mani_skill.sensors.camera import CameraConfig
from mani_skill.utils.registration import register_env
from mani_skill.utils.structs.types import SceneConfig, SimConfig
from numpy.typing import NDArray

from vlm4vla.core.environment import Pose, checked_action
from vlm4vla.core.observation import Array, Image
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import bodies, camera
from vlm4vla.suites.tabletop.changes import AWAY, USUAL, Looks, turned
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.kinematics import ROBOT_BASE
from vlm4vla.suites.tabletop.projection import POLICY_LENS
from vlm4vla.suites.tabletop.robot import light_panda
from vlm4vla.suites.tabletop.scene import CONTAINER_RADIUS, ZONE_HALF_SIZE, Scene, sample_episode
from vlm4vla.suites.tabletop.tasks import (
    TIME_LIMIT,
    EventTracker,
    Facts,
    Witness,
    limit_of,
    succeeded,
)
from vlm4vla.suites.tabletop.types import (
    BACKGROUND,
    FINGERS,
    ROBOT,
    Pictures,
    Snapshot,
    State,
)

CONTROL_MODE: Final = "pd_ee_delta_pose"

_HOME_QPOS: Final = np.array(
    [0.0, np.pi / 8, 0.0, -np.pi * 5 / 8, 0.0, np.pi * 3 / 4, np.pi / 4, 0.04, 0.04]
)
_HOME: Final = np.array([-0.10, 0.0, 0.20])
_HOME_SPREAD: Final = np.array([0.04, 0.06, 0.03])
_POINTING_DOWN: Final = (0.0, 1.0, 0.0, 0.0)
_AMBIENT: Final = 0.3
"""ManiSkill's own light, of which its two lamps are 1.0."""

_SETTLE_STEPS: Final = 10
_HAND_LINKS: Final = ("panda_leftfinger", "panda_rightfinger", "panda_hand")


class TabletopEnv(BaseEnv):
    """Objects of several colours and shapes on a table, and a Panda that is told what to do.

    `reset(options={"scene": Scene, "goal": Goal, "start": (x, y, z)})` sets an episode up; without
    these it is drawn from the seed. Reward is the goal's success.
    """

    SUPPORTED_ROBOTS = None
    SUPPORTED_REWARD_MODES = ["sparse", "none"]
    task: Task = "reach"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("robot_uids", light_panda())
        kwargs.setdefault("control_mode", CONTROL_MODE)
        self._pool: bodies.Pool | None = None
        super().__init__(*args, **kwargs)

    @property
    def _default_sim_config(self) -> SimConfig:
        return SimConfig(scene_config=SceneConfig(enable_enhanced_determinism=True))

    @property
    def _default_sensor_configs(self) -> list[CameraConfig]:
        return [camera.policy_camera()]

    @property
    def _default_human_render_camera_configs(self) -> list[CameraConfig]:
        return [camera.view_camera()]

    def _load_agent(self, options: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._load_agent(options, sapien.Pose(ROBOT_BASE))

    def _load_scene(self, options: dict[str, Any]) -> None:
        bodies.build_table(self.scene)
        self._pool = bodies.Pool(self.scene)
        links = {link.name: link._objs[0] for link in self.agent.robot.get_links()}
        self._hand = {links[name].entity: name for name in _HAND_LINKS}
        self._tcp = links["panda_hand_tcp"]
        fingers = [links[name].entity for name in _HAND_LINKS[:2]]
        arm = [link.entity for link in links.values() if link.entity not in fingers]
        self._robot_parts = {ROBOT: arm, FINGERS: fingers}

    def _initialize_episode(self, env_idx: torch.Tensor, options: dict[str, Any]) -> None:
        assert self._pool is not None
        if "scene" in options:
            scene, goal = options["scene"], options["goal"]
        else:
            episode = sample_episode(self.task, int(self._episode_seed[0]))
            scene, goal = episode.scene, episode.goal
        self.tabletop_scene: Scene = scene
        self.goal: Goal | None = goal
        self._renew_physics()
        looks = options.get("looks", USUAL)
        self._objects, self._fixtures = self._pool.arrange(self.scene.sub_scenes[0], scene, looks)
        self._look(looks)
        self._names = tuple(item.name for item in (*scene.objects, *scene.fixtures))
        self._sizes = np.array(
            [item.size for item in scene.objects]
            + [
                2 * (ZONE_HALF_SIZE[1] if place.kind == "zone" else CONTAINER_RADIUS)
                for place in scene.fixtures
            ],
            dtype=np.float32,
        )
        self._entity_names = {
            body.entity: item.name for body, item in zip(self._objects, scene.objects, strict=True)
        }
        qpos = self._start_qpos(options.get("start"))
        self.agent.reset(qpos)
        for joint, angle in zip(self.agent.robot._objs[0].active_joints, qpos, strict=True):
            joint.set_drive_target(angle)
            joint.set_drive_velocity_target(0.0)
        # Until physics has stepped, the contacts are those of the episode before.
        for _ in range(_SETTLE_STEPS):
            self.scene.step()
        self._start = self._positions(self._objects)

    def _look(self, looks: Looks) -> None:
        """Light, table and the policy's camera, whatever the episode before had."""
        world = self.scene.sub_scenes[0]
        self.scene.set_ambient_light([_AMBIENT * looks.light] * 3)
        for entity in world.entities:
            lamp = entity.find_component_by_type(sapien.render.RenderDirectionalLightComponent)
            if lamp is not None:
                lamp.color = [looks.light] * 3
            if entity.name.endswith("table"):
                body = entity.find_component_by_type(sapien.render.RenderBodyComponent)
                for shape in body.render_shapes:
                    shape.material.set_base_color([*(looks.table or bodies.TABLE_COLOUR), 1.0])
        lens = self._sensors["policy"].camera._render_cameras[0]
        lens.local_pose = camera.pose_of(turned(POLICY_LENS, looks.camera))

    def _renew_physics(self) -> None:
        """Moves everything into a new physics world, which takes less than a millisecond.

        PhysX remembers contacts, pair orders and identifiers of earlier episodes and lets them
        change the last bits of the next one; a new world has nothing to remember.
        """
        assert self._pool is not None
        self._pool.clear()
        old = self.scene.sub_scenes[0]
        entities = list(old.entities)
        for entity in reversed(entities):
            old.remove_entity(entity)
        self._set_scene_config()
        physics = sapien.physx.PhysxCpuSystem()
        physics.timestep = self.sim_timestep
        new = sapien.Scene([physics, old.render_system])
        for entity in entities:
            new.add_entity(entity)
        self.scene.sub_scenes[0] = new
        self.scene.px = physics

    def _start_qpos(self, start: tuple[float, float, float] | None) -> NDArray[np.float64]:
        """Joint angles with the finger tips at `start`, hand pointing down, fingers open."""
        if start is None:
            rng = np.random.default_rng([self.tabletop_scene.seed, 11])
            tip = _HOME + rng.uniform(-1, 1, 3) * _HOME_SPREAD
        else:
            tip = np.asarray(start, dtype=np.float64)
        kinematics = self.agent.controller.controllers["arm"].kinematics
        qpos, reached, _ = kinematics.pmodel.compute_inverse_kinematics(
            kinematics.end_link_idx,
            sapien.Pose(tip - np.array(ROBOT_BASE), _POINTING_DOWN),
            initial_qpos=_HOME_QPOS,
            active_qmask=kinematics.qmask,
            max_iterations=500,
        )
        if not reached:
            raise UserError(
                f"The arm cannot start with its finger tips at {tip.round(3).tolist()} m.",
                "Choose a start over the table, x from -0.3 to 0.15 and y from -0.25 to 0.25.",
            )
        qpos = np.asarray(qpos, dtype=np.float64)
        qpos[-2:] = _HOME_QPOS[-2:]
        return qpos

    def _positions(self, group: list[bodies.Body]) -> Array:
        return np.array([body.entity.pose.p for body in group], dtype=np.float32).reshape(-1, 3)

    def pose(self) -> Pose:
        """Joints and movable objects as they are now."""
        poses = [[*body.entity.pose.p, *body.entity.pose.q] for body in self._objects]
        joints = np.array(self.agent.robot._objs[0].qpos, dtype=np.float32)
        return Pose(joints, np.array(poses, dtype=np.float32).reshape(-1, 7))

    def take_away(self, names: Collection[str]) -> None:
        """Takes movable things off the table; nobody has touched or moved them then.

        Raises:
            UserError: there is no such thing, or it cannot be moved.
        """
        movable = [item.name for item in self.tabletop_scene.objects]
        if unknown := sorted(set(names) - set(movable)):
            raise UserError(
                f"There is no {unknown[0]} here that could be taken away.",
                f"Choose one of {', '.join(movable)}.",
            )
        for name in names:
            index = movable.index(name)
            self._objects[index].take_away(AWAY)
            self._start[index] = AWAY
            self._entity_names.pop(self._objects[index].entity, None)
        self.last_facts = self.facts()

    def set_pose(self, pose: Pose) -> None:
        """Sets joints and movable objects, without physics."""
        self.agent.robot._objs[0].qpos = pose.joints
        for body, (x, y, z, *rotation) in zip(self._objects, pose.poses, strict=True):
            body.entity.pose = sapien.Pose([x, y, z], rotation)

    def shown(self) -> dict[int, list[sapien.Entity]]:
        """The number that each entity has in a segmentation, see `Snapshot.segmentation`."""
        things = [body.entity for body in (*self._objects, *self._fixtures)]
        return self._robot_parts | {index: [thing] for index, thing in enumerate(things)}

    def facts(self) -> Facts:
        """What is true now."""
        positions = np.concatenate(
            [self._positions(self._objects), self._positions(self._fixtures)]
        )
        qpos = self.agent.robot._objs[0].qpos
        state = State(
            tcp=np.asarray(self._tcp.entity_pose.p, dtype=np.float32),
            velocity=np.asarray(self._tcp.linear_velocity, dtype=np.float32),
            opening=float(qpos[-1] + qpos[-2]),
            names=self._names,
            positions=positions,
            sizes=self._sizes,
            movable=len(self._objects),
        )
        touching: dict[str, set[str]] = {}
        for contact in self.scene.px.get_contacts():
            first, second = contact.bodies[0].entity, contact.bodies[1].entity
            for hand, thing in ((first, second), (second, first)):
                if (
                    hand in self._hand
                    and thing in self._entity_names
                    and any(np.any(point.impulse) for point in contact.points)
                ):
                    name = self._entity_names[thing]
                    touching.setdefault(name, set()).add(self._hand[hand])
        held = [name for name, links in touching.items() if set(_HAND_LINKS[:2]) <= links]
        speeds = [np.linalg.norm(body.dynamic.linear_velocity) for body in self._objects]
        upright = [
            1.0 if item.shape == "ball" else _uprightness(body.entity.pose.q)
            for item, body in zip(self.tabletop_scene.objects, self._objects, strict=True)
        ]
        return Facts(
            state=state,
            touched=frozenset(touching),
            held=held[0] if held else None,
            start=self._start,
            speeds=np.array(speeds, dtype=np.float32),
            uprightness=np.array(upright, dtype=np.float32),
        )

    def evaluate(self) -> dict[str, torch.Tensor]:
        """ManiSkill's hook: whether the goal's condition holds."""
        self.last_facts = self.facts()
        success = self.goal is not None and succeeded(self.last_facts, self.goal)
        return {"success": torch.tensor([success])}

    def _get_obs_extra(self, info: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {}


def _uprightness(quaternion: NDArray[np.float32]) -> float:
    """Cosine between the body's own z axis and up; `quaternion` is (w, x, y, z)."""
    _, x, y, _ = quaternion
    return float(1 - 2 * (x * x + y * y))


def _register(name: str, task_name: Task) -> None:
    environment = type(f"Tabletop{name}Env", (TabletopEnv,), {"task": task_name})
    register_env(f"VLM4VLA-{name}-v1", max_episode_steps=TIME_LIMIT[task_name])(environment)


for _task in TIME_LIMIT:
    _register(_task.capitalize(), _task)


class Tabletop:
    """The simulator of the suite in this process."""

    def __init__(self) -> None:
        self._env = TabletopEnv(
            obs_mode="none",
            reward_mode="none",
            sim_backend="physx_cpu",
            render_backend="sapien_cpu",
            num_envs=1,
        )
        self._tracker: EventTracker | Witness | None = None
        self._watched: Goal | None = None
        self._arranged: tuple[Scene, Looks] | None = None
        self._step = 0
        self._gone = frozenset[str]()

    def reset(
        self,
        scene: Scene,
        goal: Goal | None,
        pictures: Pictures = Pictures(),
        start: tuple[float, float, float] | None = None,
        watched: Goal | None = None,
        looks: Looks = USUAL,
        gone: Collection[str] = (),
    ) -> Snapshot:
        """Starts an episode.

        Args:
            scene: what stands where.
            goal: one of `scene.goals()`; None where nothing is judged, only told.
            pictures: which pictures the snapshot should hold.
            start: where the centre between the finger tips starts, world frame, metres; None for
                a place above the table that the scene's seed decides.
            watched: another goal of the scene whose success is watched as well.
            looks: of the world.
            gone: names of things that are off the table from the start.

        Raises:
            UserError: a goal is not possible in the scene, the start is out of reach, or nothing
                that can be moved has the name of what is gone.
        """
        if wrong := [one for one in (goal, watched) if one and one not in scene.goals()]:
            raise UserError(
                f"{wrong[0]} is not possible in this scene.",
                f"Possible: {'; '.join(str(g) for g in scene.goals())}.",
            )
        self._arranged = (scene, looks)
        options = {"scene": scene, "goal": goal, "start": start, "looks": looks}
        self._env.reset(seed=0, options=options)
        self._gone = frozenset[str]()
        self._take_away(gone)
        self._tracker = EventTracker(goal) if goal else Witness()
        self._watched = watched
        self._step = 0
        return self._observe(0.0, pictures)

    def step(
        self, action: Array, pictures: Pictures = Pictures(), gone: Collection[str] = ()
    ) -> Snapshot:
        """Carries out one action: (7,) in [-1, 1], see `docs/architecture.md`.

        Args:
            action: which.
            pictures: which pictures the snapshot should hold.
            gone: names of things that are off the table once it is carried out.

        Raises:
            UserError: no episode was started, it is no finite action, or nothing that can be moved
                has such a name.
        """
        if self._tracker is None:
            raise UserError("The simulator has no episode.", "Call reset() before step().")
        action = checked_action(action, 7)
        began = time.perf_counter()
        self._env.step(action)
        self._take_away(gone)
        self._step += 1
        return self._observe((time.perf_counter() - began) * 1e3, pictures)

    def draw(self, scene: Scene, pose: Pose, pictures: Pictures, looks: Looks = USUAL) -> Snapshot:
        """Sets robot and objects where they were and draws them, without physics.

        The episode in hand is lost; the snapshot's step, events and success mean nothing.

        Args:
            scene: what the objects are.
            pose: where they are.
            pictures: what to draw.
            looks: of the world.
        """
        if self._arranged != (scene, looks):
            self.reset(scene, None, Pictures(image=False), looks=looks)
        self._tracker = None
        self._env.set_pose(pose)
        return self._snapshot(self._env.facts(), (), False, False, 0.0, pictures)

    def segments(self) -> NDArray[np.int16]:
        """(128, 128) what the policy camera's last picture shows; see `Snapshot.segmentation`."""
        return self._segments(self._env._sensors["policy"].camera._render_cameras[0])

    def close(self) -> None:
        """Frees the simulator; it cannot be used afterwards."""
        self._env.close()

    def _take_away(self, gone: Collection[str]) -> None:
        if newly := set(gone) - self._gone:
            self._gone |= newly
            self._env.take_away(newly)

    def _observe(self, physics_ms: float, pictures: Pictures) -> Snapshot:
        assert self._tracker is not None
        facts = self._env.last_facts
        events = self._tracker.update(facts, self._step)
        goal = self._env.goal
        success = goal is not None and succeeded(facts, goal)
        watched = self._watched is not None and succeeded(facts, self._watched)
        return self._snapshot(facts, events, success, watched, physics_ms, pictures)

    def _snapshot(
        self,
        facts: Facts,
        events: tuple[str, ...],
        success: bool,
        watched: bool,
        physics_ms: float,
        pictures: Pictures,
    ) -> Snapshot:
        began = time.perf_counter()
        image, view, segmentation = self._render(pictures)
        return Snapshot(
            step=self._step,
            state=facts.state,
            pose=self._env.pose(),
            image=image,
            view=view,
            segmentation=segmentation,
            events=events,
            success=success,
            watched=watched,
            done=success or self._step >= limit_of(self._env.goal),
            physics_ms=physics_ms,
            render_ms=(time.perf_counter() - began) * 1e3,
        )

    def _render(
        self, pictures: Pictures
    ) -> tuple[Image | None, Image | None, NDArray[np.int16] | None]:
        image = view = segmentation = None
        if pictures.image or pictures.view or pictures.segmentation:
            self._env.scene.sub_scenes[0].update_render()
        if pictures.image or pictures.segmentation:
            lens = self._env._sensors["policy"].camera._render_cameras[0]
            lens.take_picture()
            if pictures.image:
                image = _colours(lens)
            if pictures.segmentation:
                segmentation = self._segments(lens)
        if pictures.view:
            lens = self._env._human_render_cameras["view"].camera._render_cameras[0]
            lens.take_picture()
            view = _colours(lens)
        return image, view, segmentation

    def _segments(self, lens: sapien.render.RenderCameraComponent) -> NDArray[np.int16]:
        ids = lens.get_picture("PositionSegmentation")[..., 3]
        segments = np.full(ids.shape, BACKGROUND, dtype=np.int16)
        for number, entities in self._env.shown().items():
            for entity in entities:
                segments[ids == entity.per_scene_id] = number
        return segments


def _colours(lens: sapien.render.RenderCameraComponent) -> Image:
    picture = lens.get_picture("Color")
    return np.ascontiguousarray(picture[..., :3])
