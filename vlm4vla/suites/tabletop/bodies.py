"""What stands on the table: a pool of bodies, built once and moved, recoloured or parked at reset.

Plates and bowls are fixed; zones are paint. Bodies of the usual sizes are built at the start, any
other when a scene first asks for it; none is removed.
"""

from typing import Final

import numpy as np
import sapien
import sapien.physx
import sapien.render
from mani_skill.envs.scene import ManiSkillScene

from vlm4vla.suites.tabletop.changes import Looks
from vlm4vla.suites.tabletop.scene import (
    BOWL_RIM,
    CONTAINER_RADIUS,
    FLOOR_THICKNESS,
    PLATE_RIM,
    SIZES,
    ZONE_HALF_SIZE,
    Scene,
)
from vlm4vla.suites.tabletop.vocabulary import COLOURS, SHAPES, Fixture, Shape, colour_of

Colour = tuple[float, float, float]

_WALL_SEGMENTS: Final = 16
TABLE_COLOUR: Final = (0.48, 0.43, 0.37)
_FLOOR_COLOUR: Final = (0.25, 0.26, 0.28)
_OBJECT_FRICTION: Final = 0.8
_ROLLING_DAMPING: Final = 25.0
"""Angular damping of balls, 1/s: a ball that is let go stops within a few centimetres."""


class Body:
    """One body of the pool.

    Args:
        entity: the SAPIEN entity.
    """

    def __init__(self, entity: sapien.Entity) -> None:
        self.entity = entity
        self._looks = entity.find_component_by_type(sapien.render.RenderBodyComponent)
        self._rigid = entity.find_component_by_type(sapien.physx.PhysxRigidDynamicComponent)
        self._away = False

    @property
    def dynamic(self) -> sapien.physx.PhysxRigidDynamicComponent:
        """The physics of a movable body."""
        return self._rigid

    def show(self, world: sapien.Scene, pose: sapien.Pose, colour: Colour) -> None:
        """Puts the body into the world, at rest, in a colour (linear RGB, 0 to 1)."""
        for shape in self._looks.render_shapes:
            for part in shape.parts if hasattr(shape, "parts") else [shape]:
                part.material.set_base_color([*colour, 1.0])
        world.add_entity(self.entity)
        self.entity.set_pose(pose)
        if self._away:
            self._rigid.set_disable_gravity(False)
            self._away = False
        if self._rigid is not None and not self._rigid.kinematic:
            self._rigid.set_linear_velocity(np.zeros(3))
            self._rigid.set_angular_velocity(np.zeros(3))
            # Also sets back how long it has been lying still, which decides when it falls asleep.
            self._rigid.wake_up()

    def take_away(self, position: tuple[float, float, float]) -> None:
        """Leaves a movable body hanging at a position, upright and at rest, until `show`."""
        self._away = True
        self._rigid.set_disable_gravity(True)
        self.entity.set_pose(sapien.Pose(position))
        self._rigid.set_linear_velocity(np.zeros(3))
        self._rigid.set_angular_velocity(np.zeros(3))


class Pool:
    """Every body that a scene can need; those it does not need are outside of the world.

    Args:
        scene: the ManiSkill scene to build them in.
    """

    def __init__(self, scene: ManiSkillScene) -> None:
        self._scene = scene
        self._objects: dict[tuple[Shape, float], Body] = {}
        self._fixtures: dict[tuple[Fixture, int], Body] = {}
        for shape in SHAPES:
            for size in SIZES:
                self._objects[shape, size] = Body(_movable(scene, shape, size))
        for index in range(2):
            self._fixtures["zone", index] = Body(_zone(scene, index))
            self._fixtures["plate", index] = Body(_container(scene, f"plate{index}", PLATE_RIM))
            self._fixtures["bowl", index] = Body(_container(scene, f"bowl{index}", BOWL_RIM))
        self._world: sapien.Scene = scene.sub_scenes[0]
        self._present = [*self._objects.values(), *self._fixtures.values()]

    def clear(self) -> None:
        """Takes every body out of the world, the last one put in first."""
        for body in reversed(self._present):
            self._world.remove_entity(body.entity)
        self._present = []

    def arrange(
        self, world: sapien.Scene, scene: Scene, looks: Looks
    ) -> tuple[list[Body], list[Body]]:
        """Puts what `scene` holds into a cleared world; returns its objects and its fixtures.

        Args:
            world: where.
            scene: what stands where.
            looks: how the movable objects are painted.
        """
        self._world = world
        objects = [self._object(item.shape, item.size) for item in scene.objects]
        fixtures = [self._fixtures[item.kind, i] for i, item in enumerate(scene.fixtures)]
        for item, body in zip(scene.objects, objects, strict=True):
            turn = [np.cos(item.yaw / 2), 0.0, 0.0, np.sin(item.yaw / 2)]
            pose = sapien.Pose([item.x, item.y, item.size / 2], turn)
            body.show(world, pose, looks.paint(COLOURS[colour_of(item.name)]))
        for place, body in zip(scene.fixtures, fixtures, strict=True):
            body.show(world, sapien.Pose([place.x, place.y, 0.0]), COLOURS[colour_of(place.name)])
        self._present = [*objects, *fixtures]
        return objects, fixtures

    def _object(self, shape: Shape, size: float) -> Body:
        if (shape, size) not in self._objects:
            body = Body(_movable(self._scene, shape, size))
            # Like all others it is outside of the world until it is shown.
            self._world.remove_entity(body.entity)
            self._objects[shape, size] = body
        return self._objects[shape, size]


def build_table(scene: ManiSkillScene) -> None:
    """A table whose top is z = 0, and a floor of two triangles."""
    table = scene.create_actor_builder()
    half = [0.6, 0.8, 0.05]
    table.add_box_collision(sapien.Pose([0, 0, -half[2]]), half)
    table.add_box_visual(sapien.Pose([0, 0, -half[2]]), half, material=_paint(TABLE_COLOUR))
    table.initial_pose = sapien.Pose([-0.25, 0, 0])
    table.build_static("table")
    floor = scene.create_actor_builder()
    floor.add_plane_visual(
        sapien.Pose([0, 0, 0], [np.sqrt(0.5), 0, -np.sqrt(0.5), 0]),
        [8.0, 8.0, 8.0],
        material=_paint(_FLOOR_COLOUR),
    )
    floor.initial_pose = sapien.Pose([0, 0, -0.75])
    floor.build_static("floor")


def _paint(colour: Colour) -> sapien.render.RenderMaterial:
    material = sapien.render.RenderMaterial(base_color=[*colour, 1.0])
    material.roughness = 0.6
    material.specular = 0.2
    return material


def _movable(scene: ManiSkillScene, shape: Shape, size: float) -> sapien.Entity:
    builder = scene.create_actor_builder()
    surface = sapien.physx.PhysxMaterial(_OBJECT_FRICTION, _OBJECT_FRICTION, 0.0)
    half = size / 2
    # SAPIEN's cylinders lie along x; ours stand.
    upright = sapien.Pose(q=[np.sqrt(0.5), 0, np.sqrt(0.5), 0])
    if shape == "cube":
        builder.add_box_collision(half_size=[half] * 3, material=surface)
        builder.add_box_visual(half_size=[half] * 3, material=_paint((1, 1, 1)))
    elif shape == "ball":
        builder.add_sphere_collision(radius=half, material=surface)
        builder.add_sphere_visual(radius=half, material=_paint((1, 1, 1)))
    else:
        builder.add_cylinder_collision(upright, half, half, material=surface)
        builder.add_cylinder_visual(upright, half, half, material=_paint((1, 1, 1)))
    builder.initial_pose = sapien.Pose([4.0, 0, 1.0 + 10 * size])
    entity: sapien.Entity = builder.build(f"{shape}-{1000 * size:.7g}mm")._objs[0]
    if shape == "ball":
        rigid = entity.find_component_by_type(sapien.physx.PhysxRigidDynamicComponent)
        rigid.set_angular_damping(_ROLLING_DAMPING)
    return entity


def _zone(scene: ManiSkillScene, index: int) -> sapien.Entity:
    builder = scene.create_actor_builder()
    builder.add_box_visual(half_size=[*ZONE_HALF_SIZE, 0.0005], material=_paint((1, 1, 1)))
    builder.initial_pose = sapien.Pose([5.0, index, 1.0])
    return builder.build_kinematic(f"zone{index}")._objs[0]


def _container(scene: ManiSkillScene, name: str, rim: float) -> sapien.Entity:
    """A round floor with a wall of boxes."""
    builder = scene.create_actor_builder()
    upright = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    floor = sapien.Pose([0, 0, FLOOR_THICKNESS / 2], upright)
    builder.add_cylinder_collision(floor, CONTAINER_RADIUS, FLOOR_THICKNESS / 2)
    builder.add_cylinder_visual(
        floor, CONTAINER_RADIUS, FLOOR_THICKNESS / 2, material=_paint((1, 1, 1))
    )
    half_width = CONTAINER_RADIUS * np.tan(np.pi / _WALL_SEGMENTS)
    for angle in np.arange(_WALL_SEGMENTS) * 2 * np.pi / _WALL_SEGMENTS:
        centre = CONTAINER_RADIUS * np.array([np.cos(angle), np.sin(angle)])
        pose = sapien.Pose([*centre, rim / 2], [np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
        half = [0.002, half_width, rim / 2]
        builder.add_box_collision(pose, half)
        builder.add_box_visual(pose, half, material=_paint((1, 1, 1)))
    builder.initial_pose = sapien.Pose([6.0, 0, 1.0])
    return builder.build_kinematic(name)._objs[0]
