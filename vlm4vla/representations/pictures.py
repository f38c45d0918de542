"""Pictures with the truth about them: what probes are fitted to and judged by."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla import seeds
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment, Pose
from vlm4vla.core.episode import EpisodeSpec, Trace
from vlm4vla.core.observation import Image
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import replacing
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.contact import in_contact
from vlm4vla.suites.tabletop.projection import POLICY_LENS
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of
from vlm4vla.suites.tabletop.types import State
from vlm4vla.suites.tabletop.vocabulary import COLOURS, colour_of

Values = NDArray[np.float64]

CLOSED_BELOW: Final = 0.06
"""Opening of the fingers (m) below which they hold an object of 4 to 5 cm, or nothing; open, they
stand 8 cm apart."""

CENTIMETRES: Final = 100.0

_LAYOUTS: Final = {str(task): layout for task, layout in LAYOUT_OF_TASK.items()}

_EVERY: Final = 100
"""Pictures between two words about how far the drawing is."""


@dataclass(frozen=True)
class Target:
    """A probing target: parts with numbers each; NaN where a picture has no such part.

    Attributes:
        name: what it is called.
        meaning: the same for people.
        kind: "distance" for positions in cm, "choice" for yes (1) or no (0).
        of: the numbers (parts, dimensions) of a true state and what was asked in it.
    """

    name: str
    meaning: str
    kind: Literal["distance", "choice"]
    of: Callable[[State, EpisodeSpec], Values]

    @property
    def metric(self) -> str:
        """How a probe's predictions are judged: mean distance, or mean of the two hit rates."""
        return "cm" if self.kind == "distance" else "balanced accuracy"


def _by_colour(state: State, spec: EpisodeSpec) -> Values:
    """Where the movable object of each colour is; NaN for colours of none, or of two."""
    found = np.full((len(COLOURS), 2), np.nan)
    movable = [colour_of(name) for name in state.names[: state.movable]]
    for place, colour in enumerate(COLOURS):
        if movable.count(colour) == 1:
            found[place] = state.positions[movable.index(colour), :2] * CENTIMETRES
    return found


def _named(state: State, spec: EpisodeSpec) -> Values:
    return np.asarray(state.position(goal_of(spec).object)[None, :2], np.float64) * CENTIMETRES


def _gripper(state: State, spec: EpisodeSpec) -> Values:
    return np.asarray(state.tcp[None], np.float64) * CENTIMETRES


def _height(state: State, spec: EpisodeSpec) -> Values:
    return np.asarray(state.tcp[None, 2:], np.float64) * CENTIMETRES


def _closed(state: State, spec: EpisodeSpec) -> Values:
    return np.array([[float(state.opening < CLOSED_BELOW)]])


def _colours(state: State, spec: EpisodeSpec) -> Values:
    seen = {colour_of(name) for name in state.names}
    return np.array([[float(colour in seen)] for colour in COLOURS])


def _depth(state: State, spec: EpisodeSpec) -> Values:
    middle = state.position(goal_of(spec).object)
    return POLICY_LENS.depth(middle[None, None]).reshape(1, 1) * CENTIMETRES


def _contact(state: State, spec: EpisodeSpec) -> Values:
    return np.array([[float(in_contact(state, goal_of(spec).object))]])


TARGETS: Final = (
    Target("object", "where the object of a colour is", "distance", _by_colour),
    Target("named", "where the object that the sentence names is", "distance", _named),
    Target("gripper", "where the gripper is", "distance", _gripper),
    Target("height", "how high the gripper is", "distance", _height),
    Target("closed", "whether the gripper is closed", "choice", _closed),
    Target("colour", "which colours are on the table", "choice", _colours),
    Target("depth", "how far from the camera the named object is", "distance", _depth),
    Target("contact", "whether the gripper touches the named object", "choice", _contact),
)
"""What probes are asked. New ones come last, so that attentive probes begin with the same weights
as before."""


@dataclass(frozen=True)
class Pictures:
    """N pictures with the truth.

    Attributes:
        images: (N, 128, 128, 3) uint8 RGB of the policy's camera.
        instructions: what was asked, one a picture.
        scenes: (N,) the scene's seed; pictures of one seed are never parted between fit and test.
        first: (N,) true for the start of a scene.
        truth: by target, (N, parts, dimensions); NaN where there is nothing to tell.
    """

    images: Image
    instructions: tuple[str, ...]
    scenes: NDArray[np.int64]
    first: NDArray[np.bool_]
    truth: Mapping[str, Values]

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: Path) -> None:
        """Writes them as one file, atomically."""
        truth = {f"truth-{name}": values for name, values in self.truth.items()}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                images=self.images,
                instructions=np.array(self.instructions),
                scenes=self.scenes,
                first=self.first,
                **truth,  # type: ignore[arg-type]
            )

    @classmethod
    def load(cls, path: Path, targets: Sequence[Target] = TARGETS) -> "Pictures":
        """Reads what `save` wrote, with the truth about some targets."""
        with np.load(path, allow_pickle=False) as found:
            return cls(
                found["images"],
                tuple(map(str, found["instructions"])),
                found["scenes"],
                found["first"],
                {target.name: found[f"truth-{target.name}"] for target in targets},
            )


class Moment(NamedTuple):
    """A picture that is to be drawn: whose, and at which pose; None for the scene's start."""

    spec: EpisodeSpec
    pose: Pose | None


def moments(table: EpisodeTable, scenes: int, agent: str) -> list[Moment]:
    """The start of every scene, and a pose along an agent's stored episode of each task in it.

    Seeds are the first of `vlm4vla.seeds.TEST`, which no model has learned from.

    Args:
        table: the episodes whose poses are used; one a task and seed.
        scenes: how many seeds.
        agent: digest of who acted in them, so that other agents' episodes change no picture.

    Raises:
        UserError: there are too few or too many for a split.
    """
    if not 20 <= scenes <= len(seeds.TEST):
        raise UserError(
            f"{scenes} scenes cannot be parted into fit, choice and test.",
            f"Take between 20 and {len(seeds.TEST)}.",
        )
    traces: dict[tuple[str, int], Trace] = {}
    own = Filter(agent=agent, condition=Condition(), split="test", current=True)
    for entry in table.entries(own):
        spec, trace = entry.episode.spec, entry.episode.trace
        if spec.suite == TABLETOP.name and spec.seed < scenes and len(trace.joints) > 1:
            traces.setdefault((spec.task, spec.seed), trace)
    found = []
    for seed in seeds.TEST[:scenes]:
        for place, task in enumerate(TABLETOP.tasks):
            spec = TABLETOP.spec(task, seed, Condition())
            # Tasks of one layout share a seed's scene, so its start is asked about but once.
            alike = [one for one in TABLETOP.tasks if _LAYOUTS[one] == _LAYOUTS[task]]
            if task == alike[seed % len(alike)]:
                found.append(Moment(spec, None))
            if (task, seed) in traces:
                trace = traces[task, seed]
                step = int(np.random.default_rng([seed, place]).integers(1, len(trace.joints)))
                found.append(Moment(spec, Pose(trace.joints[step], trace.poses[step])))
    return found


def draw(environment: Environment, wanted: list[Moment], tell: Callable[[str], None]) -> Pictures:
    """Draws pictures and asks the simulator what is true in them.

    Args:
        environment: of the tabletop suite.
        wanted: what is to be drawn.
        tell: takes a line about how far it is.
    """
    images, truth = [], {target.name: list[Values]() for target in TARGETS}
    for done, (moment, image, state) in enumerate(_drawn(environment, wanted), 1):
        images.append(image)
        for target in TARGETS:
            truth[target.name].append(target.of(state, moment.spec))
        if done % _EVERY == 0 or done == len(wanted):
            tell(f"{done} of {len(wanted)} pictures drawn")
    return Pictures(
        np.stack(images),
        tuple(moment.spec.instruction for moment in wanted),
        np.array([moment.spec.seed for moment in wanted]),
        np.array([moment.pose is None for moment in wanted]),
        {name: np.stack(values) for name, values in truth.items()},
    )


def _drawn(environment: Environment, wanted: list[Moment]) -> Iterator[tuple[Moment, Image, Any]]:
    for moment in wanted:
        if moment.pose is None:
            seen = environment.reset(moment.spec, [POLICY_CAMERA]).observation
            yield moment, seen.images[POLICY_CAMERA], environment.privileged()
        else:
            drawn = environment.draw(moment.spec, moment.pose, [POLICY_CAMERA])
            yield moment, drawn.images[POLICY_CAMERA], drawn.privileged


class Split(NamedTuple):
    """Which pictures are for what, (N,) each: a scene's are all in one."""

    fit: NDArray[np.bool_]
    choose: NDArray[np.bool_]
    test: NDArray[np.bool_]


def split(scenes: NDArray[np.int64]) -> Split:
    """Parts pictures by scene: 60 % to fit, 15 % to choose the penalty, 25 % to test."""
    known = np.unique(scenes)
    order = np.random.default_rng(0).permutation(known)
    ends = round(0.6 * len(known)), round(0.75 * len(known))
    parts = (order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] :])
    return Split(*(np.isin(scenes, part) for part in parts))
