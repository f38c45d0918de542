"""Sentences and goals: templates with paraphrases, and the way back from a sentence to a goal.

`{object}` stands for the object that moves (or is touched), `{target}` for the place or object
that it moves to. The held-out paraphrases are sentences that training never sees, made of words
that it does see.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Task = Literal["reach", "pick", "push", "place", "stack"]


@dataclass(frozen=True)
class Goal:
    """What a sentence asks for.

    Attributes:
        task: the kind of task.
        object: the movable object it is about, such as "red cube".
        target: the zone, plate, bowl or object it goes to; None for reach and pick.
    """

    task: Task
    object: str
    target: str | None = None

    def __str__(self) -> str:
        return f"{self.task}: {self.object}" + (f" -> {self.target}" if self.target else "")


class Templates(NamedTuple):
    """Paraphrases of one task, those for training and those held out."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


TEMPLATES: Final[dict[Task, Templates]] = {
    "reach": Templates(
        train=(
            "touch the {object}",
            "reach the {object}",
            "reach for the {object}",
            "go to the {object}",
            "move to the {object}",
            "move the hand to the {object}",
            "put the gripper on the {object}",
            "make contact with the {object}",
            "reach out and touch the {object}",
        ),
        held_out=(
            "go and touch the {object}",
            "move the gripper to the {object}",
            "make the hand touch the {object}",
        ),
    ),
    "pick": Templates(
        train=(
            "pick up the {object}",
            "lift the {object}",
            "grasp the {object} and lift it",
            "take the {object}",
            "grab the {object}",
            "raise the {object}",
            "pick the {object} up off the table",
            "get hold of the {object} and raise it",
            "lift the {object} up",
        ),
        held_out=(
            "grab the {object} and lift it up",
            "take hold of the {object} and raise it",
            "lift the {object} off the table",
        ),
    ),
    "push": Templates(
        train=(
            "push the {object} into the {target}",
            "push the {object} to the {target}",
            "slide the {object} into the {target}",
            "slide the {object} over to the {target}",
            "shove the {object} into the {target}",
            "move the {object} into the {target}",
            "push the {object} across the table to the {target}",
            "get the {object} into the {target} by pushing it",
            "bring the {object} to the {target} by sliding it",
        ),
        held_out=(
            "shove the {object} over to the {target}",
            "slide the {object} across the table into the {target}",
            "get the {object} to the {target} by sliding it",
        ),
    ),
    "place": Templates(
        train=(
            "put the {object} {on} the {target}",
            "place the {object} {on} the {target}",
            "set the {object} down {on} the {target}",
            "pick up the {object} and put it {on} the {target}",
            "drop the {object} {on} the {target}",
            "lay the {object} {on} the {target}",
            "carry the {object} to the {target} and let it go",
            "lift the {object} and place it {on} the {target}",
            "take the {object} and set it {on} the {target}",
        ),
        held_out=(
            "lift the {object} and drop it {on} the {target}",
            "take the {object} and lay it {on} the {target}",
            "pick up the {object} and set it down {on} the {target}",
        ),
    ),
    "stack": Templates(
        train=(
            "stack the {object} on the {target}",
            "stack the {object} on top of the {target}",
            "put the {object} on the {target}",
            "place the {object} on top of the {target}",
            "build a tower with the {object} on the {target}",
            "set the {object} down on top of the {target}",
            "pick up the {object} and stack it on the {target}",
            "make a stack with the {object} on top of the {target}",
            "lift the {object} and place it on the {target}",
        ),
        held_out=(
            "make a tower with the {object} on top of the {target}",
            "lift the {object} and stack it on top of the {target}",
            "take the {object} and set it on the {target}",
        ),
    ),
}
"""`{on}` is "in" for a bowl (with "into" understood too) and "on" for everything else."""

MAX_CHARACTERS: Final = 200
"""The longest instruction that is accepted."""


def phrase(goal: Goal, template: str) -> str:
    """Fills a template for a goal."""
    preposition = "in" if goal.target and goal.target.endswith(" bowl") else "on"
    return template.format(object=goal.object, target=goal.target, on=preposition)


def paraphrases(goal: Goal, *, held_out: bool = False) -> list[str]:
    """All sentences for a goal: the ones for training, or the held-out ones."""
    templates = TEMPLATES[goal.task]
    chosen = templates.held_out if held_out else templates.train
    return [phrase(goal, template) for template in chosen]


def normalise(sentence: str) -> str:
    """Lower case, single spaces, no closing punctuation."""
    return re.sub(r"\s+", " ", sentence.strip().lower()).rstrip(" .!")


def parse(sentence: str, valid: Iterable[Goal]) -> Goal | None:
    """The goal among `valid` that a sentence asks for, or None.

    Every paraphrase, held out or not, is understood; "put A on B" means place or stack depending
    on which of the two is valid in the scene.
    """
    wanted = normalise(sentence)
    for goal in valid:
        for held_out in (False, True):
            if wanted in paraphrases(goal, held_out=held_out):
                return goal
            if wanted.replace(" into the ", " in the ") in paraphrases(goal, held_out=held_out):
                return goal
    return None


def words(*, held_out: bool = False) -> set[str]:
    """The words of the templates, without the names that fill them."""
    found: set[str] = set()
    for templates in TEMPLATES.values():
        for template in templates.held_out if held_out else templates.train:
            found.update(re.sub(r"\{on\}", "on in", template).split())
    return {word for word in found if not word.startswith("{")}
