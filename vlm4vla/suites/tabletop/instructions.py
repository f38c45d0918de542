"""Goals of the suite, their known sentences, and the way back from a known sentence to its goal.

What people say besides is read by `vlm4vla.language.reading`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.normal import normalise

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


MAX_CHARACTERS: Final = 200
"""The longest instruction that is accepted."""


def paraphrases(goal: Goal, *, held_out: bool = False) -> list[str]:
    """All sentences for a goal: the ones for training, or the held-out ones."""
    templates = TEMPLATES[goal.task]
    chosen = templates.held_out if held_out else templates.train
    return [fill(template, goal.object, goal.target) for template in chosen]


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
