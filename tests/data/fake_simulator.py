"""A table without physics: the gripper goes exactly where it is told, closed fingers hold."""

import os
import resource
import signal
import time

import numpy as np

from vlm4vla.data.record import Rig
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.types import Array, Observation, Pictures, State

ALL = Pictures()
STEP = 0.03
HOLD = 0.015
LIMIT = 40


class FakeSimulator:
    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause

    def reset(self, scene, goal, pictures=ALL, start=None, rival=None) -> Observation:
        self.scene, self.goal, self.steps = scene, goal, 0
        rng = np.random.default_rng(scene.seed)
        home = rng.uniform((-0.1, -0.1, 0.15), (0.0, 0.1, 0.20)) if start is None else start
        self.tcp = np.array(home, np.float32)
        self.opening = 0.08
        self.held: str | None = None
        things = [*scene.objects, *scene.fixtures]
        self.names = tuple(thing.name for thing in things)
        self.places = np.array(
            [(t.x, t.y, t.size / 2 if hasattr(t, "size") else 0.0) for t in things], np.float32
        )
        return self._observe(pictures, ())

    def step(self, action: Array, pictures: Pictures = ALL) -> Observation:
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
        events = ("reached",) if near else ()
        return self._observe(pictures, events)

    def set_goal(self, goal: Goal) -> None:
        self.goal = goal

    def close(self) -> None:
        pass

    def _observe(self, pictures: Pictures, events) -> Observation:
        target = self.places[self.names.index(self.goal.object)]
        lifted = self.held == self.goal.object and target[2] > 0.08
        reached = np.linalg.norm(self.tcp - target) < HOLD
        success = bool(reached if self.goal.task == "reach" else lifted)
        image = np.full((128, 128, 3), 90, np.uint8)
        segments = np.full((128, 128), -1, np.int16)
        for index, (x, y, _) in enumerate(self.places):
            row, column = int(64 + 200 * x), int(64 + 200 * y)
            image[row : row + 8, column : column + 8] = (40 * index, 255 - 40 * index, 20)
            segments[row : row + 8, column : column + 8] = index
        image[0, : self.steps] = 255
        return Observation(
            step=self.steps,
            state=State(
                tcp=self.tcp.copy(),
                velocity=np.zeros(3, np.float32),
                opening=self.opening,
                names=self.names,
                positions=self.places.copy(),
                sizes=np.full(len(self.names), 0.04, np.float32),
                movable=len(self.scene.objects),
            ),
            image=image if pictures.image else None,
            view=None,
            segmentation=segments if pictures.segmentation else None,
            events=(*events, "success") if success else events,
            rival=False,
            success=success,
            done=success or self.steps >= LIMIT,
            physics_ms=0.0,
            render_ms=0.0,
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
    """What a collector process works with: a simulator and the labels."""
    return Rig(FakeSimulator(float(os.environ.get("FAKE_PAUSE", "0"))), fake_plan, None)


class FullDiskSimulator(FakeSimulator):
    """The disk is full from the third episode on: no file can grow beyond a kilobyte."""

    resets = 0

    def reset(self, *args, **kwargs) -> Observation:
        self.resets += 1
        if self.resets == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return super().reset(*args, **kwargs)


def full_disk_rig():
    return Rig(FullDiskSimulator(), fake_plan, None)


class CrashingSimulator(FakeSimulator):
    """Takes its process with it in the second episode, as a fault in a driver does."""

    resets = 0

    def reset(self, *args, **kwargs) -> Observation:
        self.resets += 1
        if self.resets == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(*args, **kwargs)


def crashing_rig():
    return Rig(CrashingSimulator(), fake_plan, None)


class WanderingPolicy:
    """Actions that depend on the picture and the sentence, and lead nowhere."""

    kind, label, execute = "policy", "wandering", 3

    def begin(self, scene, instruction):
        self.instruction = instruction

    def act(self, observation):
        return wander(observation.image, self.instruction)


def wander(image, instruction):
    """Four actions, of which three are carried out."""
    step = 0.1 if image.sum() % 2 else -0.1
    return np.tile(np.array([step, len(instruction) / 1000, 0, 0, 0, 0, 1], np.float32), (4, 1))


def policy_rig():
    return Rig(FakeSimulator(), fake_plan, WanderingPolicy(), "policy 0123")
