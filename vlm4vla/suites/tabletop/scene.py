"""Scenes: which objects and places stand where, and every goal that is valid among them.

A scene is a pure function of a layout and a seed; no simulator is needed to know it. Names are
unique in a scene, colours of places never repeat a colour of the scene, and in about a quarter of
the scenes two movable objects share a colour, so that the shape decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from vlm4vla.errors import UserError
from vlm4vla.language.draw import Split, sentences
from vlm4vla.language.things import Thing
from vlm4vla.suites.tabletop.instructions import Goal, Task, paraphrases
from vlm4vla.suites.tabletop.vocabulary import COLOURS, SHAPES, Fixture, Shape, colour_of, kind_of

Layout = Literal["objects", "zones", "containers"]

LAYOUT_OF_TASK: Final[dict[Task, Layout]] = {
    "reach": "objects",
    "pick": "objects",
    "push": "zones",
    "place": "containers",
    "stack": "objects",
}
TASKS: Final[tuple[Task, ...]] = tuple(LAYOUT_OF_TASK)

SIZES: Final = (0.040, 0.043, 0.046, 0.049)
"""Width and height of movable objects in metres; no two objects of a scene share a size, so a pool
of one body for each shape and size serves every scene."""

WORKSPACE: Final = ((-0.19, 0.09), (-0.15, 0.15))
"""Where the centres of movable objects may lie: x and y in metres."""

CONTAINER_Y: Final = 0.115
"""Containers stay this near to the middle, so that the policy camera sees them whole (metres)."""

MAX_YAW: Final = np.radians(10.0)
"""Cubes stand within this angle of square to the gripper."""

OBJECT_SPACING: Final = 0.095
CONTAINER_SPACING: Final = 0.120
"""Smallest distance of centres, so that open fingers fit between: object to object, and container
to anything (metres)."""

CONTAINER_RADIUS: Final = 0.058
PLATE_RIM: Final = 0.008
BOWL_RIM: Final = 0.026
FLOOR_THICKNESS: Final = 0.004
"""Plates and bowls: radius, and heights of the rims and of the floor above the table (metres)."""

ZONE_HALF_SIZE: Final = (0.165, 0.040)
ZONE_Y: Final = 0.135
PUSH_ROW_SPACING: Final = 0.085
"""Zones are strips at both sides; the objects stand in rows between them, so that each can be
pushed sideways without meeting another (metres)."""


@dataclass(frozen=True)
class ObjectSpec:
    """A movable object as the scene starts: centre x, y (m), yaw (rad), width and height (m)."""

    name: str
    size: float
    x: float
    y: float
    yaw: float

    @property
    def shape(self) -> Shape:
        """Cube, ball or cylinder."""
        shape = kind_of(self.name)
        assert shape in SHAPES
        return shape


@dataclass(frozen=True)
class FixtureSpec:
    """A place that does not move: centre x, y (m)."""

    name: str
    kind: Fixture
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """Everything that is decided before the first step.

    Attributes:
        layout: which kinds of places there are.
        seed: what it was drawn from.
        objects: the movable objects.
        fixtures: zones, plates and bowls.
    """

    layout: Layout
    seed: int
    objects: tuple[ObjectSpec, ...]
    fixtures: tuple[FixtureSpec, ...]

    def goals(self, task: Task | None = None) -> tuple[Goal, ...]:
        """Every goal that is valid here, of one task or of all; see `goals_among`."""
        every = goals_among(
            [item.name for item in self.objects], [place.name for place in self.fixtures]
        )
        return tuple(goal for goal in every if task in (None, goal.task))


def goals_among(objects: Sequence[str], fixtures: Sequence[str]) -> tuple[Goal, ...]:
    """Every goal that is valid among things of these names.

    Balls are never stacked: they roll off and nothing stays on them.
    """
    flat = [name for name in objects if kind_of(name) != "ball"]
    zones = [name for name in fixtures if kind_of(name) == "zone"]
    containers = [name for name in fixtures if kind_of(name) != "zone"]
    every: list[Goal] = [Goal("reach", name) for name in objects]
    every += [Goal("pick", name) for name in objects]
    every += [Goal("push", name, zone) for name, zone in product(objects, zones)]
    every += [Goal("place", name, place) for name, place in product(objects, containers)]
    every += [Goal("stack", a, b) for a, b in product(flat, flat) if a != b]
    return tuple(every)


def things(scene: Scene) -> tuple[Thing, ...]:
    """Everything on the table where the scene puts it, as sentences speak of it."""
    return (
        *(Thing(o.name, colour_of(o.name), o.shape, o.x, o.y, True) for o in scene.objects),
        *(Thing(f.name, colour_of(f.name), f.kind, f.x, f.y, False) for f in scene.fixtures),
    )


def sample_scene(layout: Layout, seed: int) -> Scene:
    """Draws the scene of a seed.

    Args:
        layout: "objects" (3 or 4 objects), "zones" (3 objects, 2 zones) or "containers"
            (3 objects, 2 plates or bowls).
        seed: any non-negative integer; the same seed gives the same scene for ever.
    """
    rng = np.random.default_rng([seed, sorted(set(LAYOUT_OF_TASK.values())).index(layout)])
    count = int(rng.integers(3, 5)) if layout == "objects" else 3
    places = 0 if layout == "objects" else 2
    names = _object_names(rng, count, flat=2 if layout == "objects" else 1)
    free = [colour for colour in COLOURS if colour not in {colour_of(name) for name in names}]
    colours = [free[int(i)] for i in rng.permutation(len(free))[:places]]
    if layout == "zones":
        fixtures = tuple(
            FixtureSpec(f"{colour} zone", "zone", (WORKSPACE[0][0] + WORKSPACE[0][1]) / 2, y)
            for colour, y in zip(colours, (ZONE_Y, -ZONE_Y), strict=True)
        )
        positions = _rows(rng, count)
    else:
        kinds: list[Fixture] = [("plate", "bowl")[int(rng.integers(2))] for _ in colours]
        spots = _scatter(rng, [True] * places + [False] * count)
        fixtures = tuple(
            FixtureSpec(f"{colour} {kind}", kind, x, y)
            for colour, kind, (x, y) in zip(colours, kinds, spots[:places], strict=True)
        )
        positions = spots[places:]
    sizes = rng.permutation(SIZES)[:count]
    yaws = rng.uniform(-MAX_YAW, MAX_YAW, size=count)
    objects = tuple(
        ObjectSpec(name, float(size), x, y, float(yaw))
        for name, size, (x, y), yaw in zip(names, sizes, positions, yaws, strict=True)
    )
    return Scene(layout, seed, objects, fixtures)


@dataclass(frozen=True)
class Episode:
    """A scene, one of its goals, and a sentence for it.

    Attributes:
        scene: where it starts.
        goal: what is asked for.
        instruction: how.
        kind: how the sentence refers to things: "known", or a kind of `vlm4vla.language.kinds`.
        held_out: see `vlm4vla.language.draw.Sentence`.
    """

    scene: Scene
    goal: Goal
    instruction: str
    kind: str = "known"
    held_out: str = ""


def sample_episode(
    task: Task,
    seed: int,
    *,
    held_out: bool = False,
    alternate: bool = False,
    words: Split = "known",
) -> Episode:
    """Draws the scene, the goal and the sentence of a seed.

    Args:
        task: which of the five tasks the goal is of.
        seed: fixes all three.
        held_out: take the sentence from the held-out paraphrases.
        alternate: take a second goal of the same scene and task, about another object or another
            place; the scene is the same as without it.
        words: "known" takes a template; "broad" and "held-out" draw from the whole language what
            means this goal and no other in the scene (see `vlm4vla.language.draw.sentences`).

    Raises:
        UserError: the task or the words are unknown.
    """
    if task not in LAYOUT_OF_TASK:
        raise UserError(f"Unknown task {task!r}; known: {', '.join(TASKS)}.")
    scene = sample_scene(LAYOUT_OF_TASK[task], seed)
    rng = np.random.default_rng([seed, TASKS.index(task), 7])
    goals = scene.goals(task)
    first, second = rng.permutation(len(goals))[:2]
    goal = goals[int(second if alternate else first)]
    if words != "known":
        key = (goal.task, goal.object, goal.target)
        drawn = next(sentences(key, things(scene), words, rng))
        return Episode(scene, goal, drawn.text, drawn.kind, drawn.held_out)
    texts = paraphrases(goal, held_out=held_out)
    return Episode(scene, goal, texts[int(rng.integers(len(texts)))])


def _object_names(rng: np.random.Generator, count: int, flat: int) -> list[str]:
    """Unique names with at least `flat` objects that are not balls."""
    while True:
        shapes = [SHAPES[int(i)] for i in rng.integers(len(SHAPES), size=count)]
        if sum(shape != "ball" for shape in shapes) >= flat:
            break
    colours = [list(COLOURS)[int(i)] for i in rng.permutation(len(COLOURS))[:count]]
    twin = next((i for i in range(1, count) if shapes[i] != shapes[0]), None)
    if twin is not None and rng.random() < 0.27:
        colours[twin] = colours[0]
    return [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]


def _scatter(rng: np.random.Generator, container: list[bool]) -> list[tuple[float, float]]:
    """Positions in the workspace that keep the spacings; `container` says which are containers."""
    (x0, x1), (y0, y1) = WORKSPACE
    while True:
        spots: list[tuple[float, float]] = []
        for index, is_container in enumerate(container):
            for _ in range(40):
                x, y = float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1))
                if is_container:
                    y *= CONTAINER_Y / y1
                if all(
                    np.hypot(x - a, y - b)
                    >= (CONTAINER_SPACING if is_container or container[j] else OBJECT_SPACING)
                    for j, (a, b) in enumerate(spots)
                ):
                    spots.append((x, y))
                    break
            if len(spots) <= index:
                break
        if len(spots) == len(container):
            return spots


def _rows(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """Positions between the zones, one object a row."""
    x0, x1 = WORKSPACE[0]
    slack = (x1 - x0) - PUSH_ROW_SPACING * (count - 1)
    offsets = np.sort(rng.uniform(0.0, slack, size=count))
    xs = x0 + offsets + PUSH_ROW_SPACING * np.arange(count)
    ys = rng.uniform(-0.05, 0.05, size=count)
    return [(float(xs[i]), float(ys[i])) for i in rng.permutation(count)]
