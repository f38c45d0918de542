"""A table without physics: the gripper goes exactly where it is told, closed fingers hold."""

import os
import resource
import signal
import time

import numpy as np

from vlm4vla.action import tiny
from vlm4vla.core.environment import Drawing, Pose, Transition
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Array, Observation
from vlm4vla.data.record import Rig
from vlm4vla.suites.tabletop.changes import START
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of, scene_of
from vlm4vla.suites.tabletop.types import FINGERS, ROBOT, State

STEP = 0.03
HOLD = 0.015
LIMIT = 40


class FakeEnvironment:
    perturbations = (START,)
    action = tiny()

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause

    def reset(self, spec, cameras=()) -> Transition:
        scene, self.goal, self.steps = scene_of(spec), goal_of(spec), 0
        rng = np.random.default_rng(scene.seed)
        home = rng.uniform((-0.1, -0.1, 0.15), (0.0, 0.1, 0.20))
        for change in spec.condition.perturbations:
            if change.name == START:
                home = [change.values[axis] for axis in "xyz"]
        self.tcp = np.array(home, np.float32)
        self.opening = 0.08
        self.held: str | None = None
        things = [*scene.objects, *scene.fixtures]
        self.names = tuple(thing.name for thing in things)
        self.movable = len(scene.objects)
        self.places = np.array(
            [(t.x, t.y, t.size / 2 if hasattr(t, "size") else 0.0) for t in things], np.float32
        )
        return self._told(cameras, ())

    def step(self, action: Array, cameras=()) -> Transition:
        time.sleep(self.pause)
        self.steps += 1
        self.tcp = (self.tcp + np.asarray(action[:3], np.float32) * np.float32(0.1)).astype("f4")
        self.opening = 0.08 if action[6] > 0 else 0.04
        target = self.names.index(self.goal.object)
        near = np.linalg.norm(self.tcp - self.places[target]) < HOLD
        if self.opening > 0.05:
            self.held = None
        elif near:
            self.held = self.goal.object
        if self.held:
            self.places[target] = self.tcp
        return self._told(cameras, ("reached",) if near else ())

    def privileged(self) -> State:
        return State(
            tcp=self.tcp.copy(),
            velocity=np.zeros(3, np.float32),
            opening=self.opening,
            names=self.names,
            positions=self.places.copy(),
            sizes=np.full(len(self.names), 0.04, np.float32),
            movable=self.movable,
        )

    def segmentation(self):
        """Squares of 8 x 8 pixels on a table, below an arm with fingers."""
        segments = np.full((128, 128), -1, np.int16)
        segments[:10], segments[10:12] = ROBOT, FINGERS
        for index, (row, column) in enumerate(self._corners()):
            segments[row : row + 8, column : column + 8] = index
        return segments

    def draw(self, spec, pose, cameras=(), *, segmentation=False) -> Drawing:
        self.reset(spec)
        self.tcp, self.opening = pose.joints[:3].copy(), float(pose.joints[3])
        self.places[: self.movable] = pose.poses[:, :3]
        return Drawing({POLICY_CAMERA: self._image()}, self.segmentation(), self.privileged())

    def close(self) -> None:
        pass

    def _corners(self):
        return [(int(64 + 200 * x), int(64 + 200 * y)) for x, y, _ in self.places]

    def _image(self):
        image = np.full((128, 128, 3), 90, np.uint8)
        for index, (row, column) in enumerate(self._corners()):
            image[row : row + 8, column : column + 8] = (40 * index, 255 - 40 * index, 20)
        image[0, : self.steps] = 255
        return image

    def _told(self, cameras, events) -> Transition:
        target = self.places[self.names.index(self.goal.object)]
        lifted = self.held == self.goal.object and target[2] > 0.08
        reached = np.linalg.norm(self.tcp - target) < HOLD
        success = bool(reached if self.goal.task == "reach" else lifted)
        poses = np.zeros((self.movable, 7), np.float32)
        poses[:, :3] = self.places[: self.movable]
        images = {POLICY_CAMERA: self._image()} if POLICY_CAMERA in cameras else {}
        return Transition(
            observation=Observation(self.steps, images, np.array([*self.tcp, self.opening], "f4")),
            events=(*events, "success") if success else events,
            success=success,
            done=success or self.steps >= LIMIT,
            pose=Pose(np.array([*self.tcp, self.opening], np.float32), poses),
        )


def fake_plan(state: State, goal: Goal, n: int) -> Array:
    """Goes to the object, closes on it, lifts it."""
    tcp = state.tcp.astype(np.float64)
    position = state.position(goal.object).astype(np.float64)
    closed = state.opening < 0.05
    actions = []
    for _ in range(n):
        away = position - tcp
        if closed and np.linalg.norm(away) < HOLD:
            move = np.array([0.0, 0.0, STEP])
            position = position + move
        else:
            move = away * min(1.0, STEP / max(float(np.linalg.norm(away)), 1e-9))
            closed = bool(np.linalg.norm(away - move) < HOLD)
        tcp = tcp + move
        actions.append([*(move / 0.1), 0, 0, 0, -1.0 if closed else 1.0])
    return np.array(actions, np.float32)


def rig():
    """What a collector process works with: an environment and the labels."""
    return Rig(FakeEnvironment(float(os.environ.get("FAKE_PAUSE", "0"))), fake_plan)


class FullDiskEnvironment(FakeEnvironment):
    """The disk is full from the third episode on: no file can grow beyond a kilobyte."""

    resets = 0

    def reset(self, *args) -> Transition:
        self.resets += 1
        if self.resets == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return super().reset(*args)


def full_disk_rig():
    return Rig(FullDiskEnvironment(), fake_plan)


class CrashingEnvironment(FakeEnvironment):
    """Takes its process with it in the second episode, as a fault in a driver does."""

    resets = 0

    def reset(self, *args) -> Transition:
        self.resets += 1
        if self.resets == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(*args)


def crashing_rig():
    return Rig(CrashingEnvironment(), fake_plan)


class WanderingPolicy:
    """Actions that depend on the picture and the sentence, and lead nowhere."""

    identity = AgentId("policy", "0123", "wandering")
    replan_every = 3
    cameras = (POLICY_CAMERA,)
    action = tiny()

    def reset(self, instruction):
        self.instruction = instruction

    def act(self, observation):
        return wander(observation.images[POLICY_CAMERA], self.instruction)


def wander(image, instruction):
    """Four actions, of which three are carried out."""
    step = 0.1 if image.sum() % 2 else -0.1
    return np.tile(np.array([step, len(instruction) / 1000, 0, 0, 0, 0, 1], np.float32), (4, 1))


def policy_rig():
    return Rig(FakeEnvironment(), fake_plan, WanderingPolicy(), "policy 0123")
