"""Goals of the suite and their known sentences; `vlm4vla.language.reading` leads back to a goal."""

from dataclasses import dataclass
from typing import Final, Literal

from vlm4vla.language.known import TEMPLATES, fill

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
