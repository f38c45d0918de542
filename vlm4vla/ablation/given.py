"""What an agent is given under perturbations: its sentence at a step, and its picture.

The layer that perturbs a running episode and whoever draws a stored one again both ask here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.ablation.pictures import PICTURES, Mask, Truth, perturbed_picture
from vlm4vla.ablation.sentences import SENTENCES, perturbed_sentence
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Drawing, Environment, Painter, Pose
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.core.observation import Image
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import SUITES
from vlm4vla.suites.tabletop.changes import CHANGES
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, judged_goal
from vlm4vla.suites.tabletop.types import BACKGROUND, FINGERS, ROBOT

_OF_SCENE: Final = "picture-other"
_SHUFFLED: Final = "picture-patches"
_BY_SEGMENTATION: Final = "picture-without"


def given_sentence(spec: EpisodeSpec, changes: Sequence[Perturbation], step: int) -> str:
    """The sentence that an agent is told at a control step: the first perturbed one that holds.

    Raises:
        UserError: see `perturbed_sentence`.
    """
    for change in changes:
        if change.name in SENTENCES and change.holds(step):
            return perturbed_sentence(spec, change)
    return spec.instruction


def given_picture(
    picture: Image, changes: Sequence[Perturbation], seed: int, step: int, truth: Truth
) -> Image:
    """The picture that an agent is shown at a control step: under all perturbations that hold.

    Args:
        picture: (H, W, 3) uint8 RGB, as the simulator draws it.
        changes: of the episode, in their order.
        seed: the scene's.
        step: the control step.
        truth: what only some of them need.

    Raises:
        UserError: see `perturbed_picture`.
    """
    for change in changes:
        if change.name in PICTURES and change.holds(step):
            picture = perturbed_picture(picture, change, seed, step, truth)
    return picture


def unrepeatable(changes: Sequence[Perturbation]) -> list[str]:
    """Names of the perturbations that drawing an episode again does not repeat.

    They act inside the policy, or are none of this version's. The trace holds what the simulator
    changed.
    """
    return [one.name for one in changes if one.name not in (*PICTURES, *SENTENCES, *CHANGES)]


def displaced(changes: Sequence[Perturbation], step: int) -> bool:
    """Whether things are elsewhere in the picture that is shown than in the one that is drawn."""
    return any(one.name in (_OF_SCENE, _SHUFFLED) and one.holds(step) for one in changes)


def needs_another_scene(changes: Sequence[Perturbation]) -> bool:
    """Whether a perturbation shows another scene, see `another_scene`."""
    return any(one.name == _OF_SCENE for one in changes)


def another_scene(environment: Environment, spec: EpisodeSpec, cameras: Collection[str]) -> Image:
    """The first picture of the neighbouring seed's scene; both seeds are of one split.

    The running episode is lost.
    """
    other = SUITES.get(spec.suite).spec(spec.task, spec.seed ^ 1, Condition())
    seen = environment.reset(other, cameras).observation
    return seen.images[next(iter(cameras))]


def cover(
    spec: EpisodeSpec,
    what: str,
    segmentation: NDArray[np.int16],
    names: Callable[[], Sequence[str]],
) -> tuple[Mask, Mask]:
    """Where something is seen in a picture, and where the background is, both (H, W).

    Args:
        spec: whose goal.
        what: "object", "target", "gripper" or "robot".
        segmentation: (H, W), see `vlm4vla.suites.tabletop.types.Snapshot`.
        names: gives those of the things in it, in the order of the true state.

    Raises:
        UserError: see `check_named`.
    """
    if what in ("gripper", "robot"):
        hidden = segmentation == FINGERS
        if what == "robot":
            hidden |= segmentation == ROBOT
    else:
        hidden = segmentation == list(names()).index(_named(spec, what))
    return hidden, segmentation == BACKGROUND


def check_nameable(spec: EpisodeSpec, changes: Sequence[Perturbation]) -> None:
    """Refuses perturbations that name something which the goal does not have.

    Raises:
        UserError: there is no such thing, or a sentence cannot be said.
    """
    for change in changes:
        if change.name in SENTENCES:
            perturbed_sentence(spec, change)
        if change.name == _BY_SEGMENTATION and change.values["what"] not in ("gripper", "robot"):
            _named(spec, str(change.values["what"]))


@dataclass(frozen=True)
class GivenPainter:
    """A painter whose policy pictures are what the policy was given, see `Painter`.

    Attributes:
        painter: who draws.
        other: another scene's picture, where a perturbation shows one.
        step: the control step whose perturbations hold.
    """

    painter: Painter
    other: Image | None = None
    step: int = 0

    @classmethod
    def of(cls, environment: Environment, spec: EpisodeSpec) -> "GivenPainter":
        """The painter of a stored episode. The running episode is lost."""
        if not needs_another_scene(spec.condition.perturbations):
            return cls(environment)
        return cls(environment, another_scene(environment, spec, (POLICY_CAMERA,)))

    def at(self, step: int) -> "GivenPainter":
        """The painter of another control step."""
        return replace(self, step=step)

    def draw(
        self,
        spec: EpisodeSpec,
        pose: Pose,
        cameras: Collection[str] = (),
        *,
        segmentation: bool = False,
    ) -> Drawing:
        """See `Painter.draw`.

        Raises:
            UserError: the suite cannot, or a perturbation cannot be repeated.
        """
        changes = spec.condition.perturbations
        covered = any(one.name == _BY_SEGMENTATION and one.holds(self.step) for one in changes)
        drawn = self.painter.draw(spec, pose, cameras, segmentation=segmentation or covered)
        if POLICY_CAMERA not in drawn.images:
            return drawn

        def covers(what: str) -> tuple[Mask, Mask]:
            if drawn.segmentation is None:
                raise UserError("The simulator has no segmentation of this picture.")
            return cover(spec, what, drawn.segmentation, lambda: drawn.privileged.names)

        plain = drawn.images[POLICY_CAMERA]
        seen = given_picture(plain, changes, spec.seed, self.step, Truth(self.other, covers))
        return replace(drawn, images={**drawn.images, POLICY_CAMERA: seen})


def _named(spec: EpisodeSpec, what: str) -> str:
    """The name of the goal's object or target."""
    goal = judged_goal(spec)
    name = (goal.object if what == "object" else goal.target) if goal else None
    if not name:
        raise UserError(
            f"The {what} of {spec.instruction!r} cannot be painted out: there is none.",
            "Choose the object, the gripper or the robot.",
        )
    return name
