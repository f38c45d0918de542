"""Environments: a simulated robot that carries out actions, whatever the simulator behind it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from vlm4vla.action import ActionSpec
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Array, Image, Observation
from vlm4vla.errors import UserError


@dataclass(frozen=True)
class Pose:
    """The configuration of robot and objects at one moment; see `vlm4vla.core.episode.Trace`.

    Attributes:
        joints: (j,) float32 joint positions.
        poses: (k, 7) float32 of the movable objects.
    """

    joints: Array
    poses: Array


@dataclass(frozen=True)
class Transition:
    """A transition: what a reset or a step of an environment gives.

    Attributes:
        observation: what an agent may see.
        events: what happened in this step, in the suite's own words.
        success: whether the goal's condition holds now.
        watched: whether the condition of a goal that is only watched holds now.
        done: the episode is over, by success or by timeout.
        pose: of robot and objects; None where the suite has none.
        physics_ms: time spent in physics.
        render_ms: time spent on pictures.
    """

    observation: Observation
    events: tuple[str, ...]
    success: bool
    done: bool
    watched: bool = False
    pose: Pose | None = None
    physics_ms: float = 0.0
    render_ms: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """What replay draws of one pose.

    Attributes:
        images: camera name to (H, W, 3) uint8 RGB.
        segmentation: (H, W) int16 of the policy's camera in the suite's own numbers, or None.
        privileged: the true state in the suite's own terms.
    """

    images: Mapping[str, Image]
    segmentation: NDArray[np.int16] | None
    privileged: Any


class Painter(Protocol):
    """A painter: what draws stored poses."""

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        """Sets a stored pose and draws it, without physics. The running episode is lost.

        Raises:
            UserError: the suite cannot.
        """
        ...


class Environment(Painter, Protocol):
    """An environment: one simulated robot, in this process or in another."""

    @property
    def perturbations(self) -> Collection[str]:
        """Names of the perturbations that it carries out."""
        ...

    @property
    def action(self) -> ActionSpec:
        """What it takes an action for."""
        ...

    def reset(self, spec: EpisodeSpec, cameras: Collection[str] = ()) -> Transition:
        """Starts an episode; nothing of the one before matters.

        Args:
            spec: what is asked for.
            cameras: which pictures the observation should hold.

        Raises:
            UserError: the specification is impossible here.
        """
        ...

    def step(self, action: Array, cameras: Collection[str] = ()) -> Transition:
        """Carries out one action (d,) in the suite's units.

        Raises:
            UserError: it is no action of this suite; see `checked_action`.
        """
        ...

    def privileged(self) -> Any:
        """The true state now, in the suite's own terms; for experts, labels and measures.

        Raises:
            UserError: the suite has none.
        """
        ...

    def segmentation(self) -> NDArray[np.int16]:
        """(H, W) what the policy camera's last picture shows, in the suite's own numbers; truth.

        Raises:
            UserError: the suite has none.
        """
        ...

    def close(self) -> None:
        """Frees the simulator; it cannot be used afterwards."""
        ...


def checked_action(action: npt.ArrayLike, width: int) -> Array:
    """An action (d,) as float32, if a controller can carry it out.

    Controllers clip what is too large, so infinity would be full travel, and NaN anything.

    Args:
        action: which.
        width: d, how many numbers the suite's actions have.

    Raises:
        UserError: it has another shape, is not of numbers, or one of them is not finite.
    """
    try:
        with np.errstate(over="ignore"):
            checked = np.asarray(action, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"An action has {width} numbers; this is none: {error}.") from error
    if checked.shape != (width,):
        raise UserError(f"An action has {width} numbers, not the shape {checked.shape}.")
    if not np.isfinite(checked).all():
        raise UserError(f"The action {checked.tolist()} is not finite, so it is not carried out.")
    return checked
