"""Meanings: what a sentence can ask for, before it is known which things stand on the table."""

from dataclasses import dataclass
from typing import Final, Literal

Task = Literal["reach", "pick", "push", "place", "stack"]
TASKS: Final[tuple[Task, ...]] = ("reach", "pick", "push", "place", "stack")

TARGET_KINDS: Final[dict[Task, tuple[str, ...]]] = {
    "reach": (),
    "pick": (),
    "push": ("zone",),
    "place": ("plate", "bowl"),
    "stack": ("cube", "cylinder", "ball"),
}
"""Where the object of a task can go; a ball is understood, though no scene has it as a goal."""

Relation = Literal[
    "leftmost",
    "rightmost",
    "on the left",
    "on the right",
    "nearest to",
    "farthest from",
    "between",
    "behind",
    "in front of",
    "left of",
    "right of",
    "other than",
]
ANCHORS: Final[dict[Relation, int]] = {
    "leftmost": 0,
    "rightmost": 0,
    "on the left": 0,
    "on the right": 0,
    "nearest to": 1,
    "farthest from": 1,
    "between": 2,
    "behind": 1,
    "in front of": 1,
    "left of": 1,
    "right of": 1,
    "other than": 1,
}
"""How many further things a relation names."""


@dataclass(frozen=True)
class Noun:
    """A thing by its looks.

    Attributes:
        colour: a canonical colour, or None if it is not said.
        kind: a canonical kind, or None for "the red one" or "the object".
    """

    colour: str | None = None
    kind: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.colour, self.kind or "object")))


@dataclass(frozen=True)
class Reference:
    """A thing by its looks, by where it stands, or by what it is not.

    Attributes:
        noun: its looks.
        relation: where it stands; "other than" excludes the looks of its anchor.
        anchors: the things that the relation names. "between" has no order: they are sorted.
    """

    noun: Noun
    relation: Relation | None = None
    anchors: tuple[Noun, ...] = ()

    def __post_init__(self) -> None:
        if len(self.anchors) != (ANCHORS[self.relation] if self.relation else 0):
            raise ValueError(f"{self.relation} has not {len(self.anchors)} anchors")
        object.__setattr__(self, "anchors", tuple(sorted(self.anchors, key=str)))

    def __str__(self) -> str:
        anchors = " and ".join(f"the {anchor}" for anchor in self.anchors)
        match self.relation:
            case None:
                return f"the {self.noun}"
            case "leftmost" | "rightmost":
                return f"the {self.relation} {self.noun}"
            case "on the left" | "on the right":
                return f"the {self.noun} {self.relation}"
            case "other than":
                return f"the {self.noun} that is not {_quality(self.anchors[0])}"
            case _:
                return f"the {self.noun} {self.relation} {anchors}"


def _quality(noun: Noun) -> str:
    return noun.colour or f"a {noun.kind}"


@dataclass(frozen=True)
class Meaning:
    """What a sentence asks for.

    Attributes:
        task: the kind of task.
        object: what is touched or moved.
        target: where it goes; None for reach and pick.
    """

    task: Task
    object: Reference
    target: Reference | None = None

    def __post_init__(self) -> None:
        if (self.target is None) != (self.task in ("reach", "pick")):
            raise ValueError(f"{self.task} with target {self.target}")
