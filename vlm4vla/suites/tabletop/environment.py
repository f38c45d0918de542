"""The tabletop suite's simulator as an environment."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from vlm4vla.action import ActionSpec
from vlm4vla.core.condition import Perturbation
from vlm4vla.core.environment import Drawing, Pose, Transition
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.changes import CHANGES, START, check, gone_at, looks_of
from vlm4vla.suites.tabletop.suite import (
    POLICY_CAMERA,
    VIEW_CAMERA,
    TabletopSuite,
    judged_goal,
    scene_of,
    watched_goal,
)
from vlm4vla.suites.tabletop.types import Pictures, Snapshot, State
from vlm4vla.system.vulkan import ensure_driver


def open_environment() -> "TabletopEnvironment":
    """The suite's environment in this process.

    Raises:
        UserError: there is no Vulkan driver.
    """
    ensure_driver()
    return TabletopEnvironment()


class TabletopEnvironment:
    """The suite's simulator; see `vlm4vla.core.environment.Environment`."""

    perturbations: tuple[str, ...] = CHANGES
    action: ActionSpec = TabletopSuite().action

    def __init__(self) -> None:
        # SAPIEN takes seconds to import, and it looks for its driver then.
        from vlm4vla.suites.tabletop.env import Tabletop

        self._simulator = Tabletop()
        self._state: State | None = None
        self._changes: tuple[Perturbation, ...] = ()
        self._steps = 0

    def reset(self, spec: EpisodeSpec, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.reset`."""
        changes = spec.condition.perturbations
        check(changes)
        start = next((one for one in changes if one.name == START), None)
        where = None
        if start is not None:
            where = (float(start.values["x"]), float(start.values["y"]), float(start.values["z"]))
        watched = watched_goal(spec)
        self._changes, self._steps = changes, 0
        return self._told(
            self._simulator.reset(
                scene_of(spec),
                judged_goal(spec),
                _pictures(cameras),
                where,
                watched,
                looks_of(changes),
                gone_at(changes, 0),
            )
        )

    def step(self, action: Array, cameras: Collection[str] = ()) -> Transition:
        """See `Environment.step`."""
        self._steps += 1
        gone = gone_at(self._changes, self._steps)
        return self._told(self._simulator.step(action, _pictures(cameras), gone))

    def privileged(self) -> State:
        """The true state; see `Environment.privileged`."""
        if self._state is None:
            raise UserError("The simulator has no episode.", "Call reset() first.")
        return self._state

    def segmentation(self) -> NDArray[np.int16]:
        """See `Environment.segmentation`; numbers as in `Snapshot.segmentation`."""
        return self._simulator.segments()

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        """See `Environment.draw`."""
        wanted = _pictures(cameras)
        drawn = self._simulator.draw(
            scene_of(spec),
            pose,
            Pictures(wanted.image, wanted.view, segmentation),
            looks_of(spec.condition.perturbations),
        )
        return Drawing(_images(drawn), drawn.segmentation, drawn.state)

    def close(self) -> None:
        """See `Environment.close`."""
        self._simulator.close()

    def _told(self, seen: Snapshot) -> Transition:
        self._state = seen.state
        proprio = np.array([*seen.state.tcp, seen.state.opening], np.float32)
        return Transition(
            observation=Observation(seen.step, _images(seen), proprio),
            events=seen.events,
            success=seen.success,
            done=seen.done,
            watched=seen.watched,
            pose=seen.pose,
            physics_ms=seen.physics_ms,
            render_ms=seen.render_ms,
        )


def _pictures(cameras: Collection[str]) -> Pictures:
    return Pictures(image=POLICY_CAMERA in cameras, view=VIEW_CAMERA in cameras)


def _images(seen: Snapshot) -> dict[str, Image]:
    found = {POLICY_CAMERA: seen.image, VIEW_CAMERA: seen.view}
    return {camera: image for camera, image in found.items() if image is not None}
