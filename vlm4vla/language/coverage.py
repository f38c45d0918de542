"""What is understood and what is not, counted: the content of `docs/language.md`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from vlm4vla.errors import UserError
from vlm4vla.language.draw import GoalKey, Split, sentences
from vlm4vla.language.kinds import SHARES, all_words, held_out_kind, training_words
from vlm4vla.language.meanings import TASKS, Task
from vlm4vla.language.reading import read_in_scene
from vlm4vla.language.things import Thing
from vlm4vla.statistics import wilson

Goals = Sequence[tuple[str, str, str | None]]

_EACH: Final = 4
"""Sentences of a kind for each scene."""

EXAMPLE: Final = (
    Thing("red cube", "red", "cube", -0.15, -0.12, True),
    Thing("blue cube", "blue", "cube", 0.07, 0.08, True),
    Thing("yellow ball", "yellow", "ball", -0.04, -0.12, True),
    Thing("green plate", "green", "plate", -0.12, 0.10, False),
    Thing("purple bowl", "purple", "bowl", 0.05, -0.04, False),
)
_ALONE: Final[tuple[Task, ...]] = ("reach", "pick")
_STACKS: Final = (("red cube", "blue cube"), ("blue cube", "red cube"))
EXAMPLE_GOALS: Final = (
    *(GoalKey(task, thing.name) for thing in EXAMPLE[:3] for task in _ALONE),
    *(GoalKey("place", thing.name, place.name) for thing in EXAMPLE[:3] for place in EXAMPLE[3:]),
    *(GoalKey("stack", *pair) for pair in _STACKS),
)
"""A table with two cubes, a ball, a plate and a bowl, that the page's examples are read in."""

EXAMPLES: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    (
        "Understood",
        "Every word is accounted for, and all that it can mean is one goal.",
        (
            "could you please pick up the crimson block?",
            "get the ball for me",
            "take the red cube, and then put it on the plate",
            "put the ball in the green dish",
            "lift teh yelow ball",
            "pick up the cube nearest to the green plate",
        ),
    ),
    (
        "Which one?",
        "More than one thing answers to what was said, or where it stands is not clear in both"
        " pictures.",
        ("pick up the cube", "put the ball in the dish", "pick up any cube"),
    ),
    (
        "Not here",
        "Nothing on the table answers to it.",
        (
            "lift the purple cube",
            "put the ball in the green zone",
            "put the red cube in the drawer",
        ),
    ),
    (
        "Several tasks",
        "Success is judged of one goal.",
        (
            "pick up the red cube and then the blue cube",
            "touch both cubes",
            "put the cubes on the plate",
        ),
    ),
    (
        "Saying what not to do",
        "Whether nothing else was done is not judged.",
        ("do not pick up the red cube", "do nothing", "touch anything but the ball"),
    ),
    (
        "Conditions and order",
        "Only what is true at the end is judged, not when.",
        ("pick up the ball unless it is red", "touch the ball before you lift the red cube"),
    ),
    (
        "How, how far, and where on the table",
        "Manner, distance, direction, turning and places beside things have no measure here.",
        (
            "pick up the red cube slowly",
            "lift the red cube by 10 cm",
            "push the red cube to the left",
            "put the ball next to the plate",
            "put the ball between the red cube and the blue cube",
            "take the red cube and rotate it",
        ),
    ),
    (
        "Size, number, history, and this one",
        "Things are told by colour, kind and place alone.",
        ("pick up the big cube", "pick up two balls", "put it back", "lift this one"),
    ),
    (
        "Other words and other languages",
        "A word that the table does not hold may change everything.",
        ("zarf the blick", "grab the crimson wug", "prends le cube rouge", "lift the red bell"),
    ),
    (
        "Questions, names and fragments",
        "Nothing is asked for, or nothing is said of it.",
        ("is the ball on the plate?", "the red cube", "pick up"),
    ),
)


@dataclass(frozen=True)
class Coverage:
    """A kind of reference, counted.

    Attributes:
        kind: which.
        scenes: in how many scenes a goal can be told by it.
        of: how many scenes.
        read: of the sentences of each split: how many were drawn, and how many read as their goal.
        wrong: how many were read as another goal.
    """

    kind: str
    scenes: int
    of: int
    read: dict[Split, tuple[int, int]]
    wrong: int


def count(scenes: Iterable[tuple[Sequence[Thing], Goals, GoalKey]]) -> list[Coverage]:
    """Draws sentences of every kind in scenes and reads them again.

    Args:
        scenes: the things, every goal, and the goal that sentences are drawn for.
    """
    scenes = list(scenes)
    found: list[Coverage] = []
    for kind in SHARES:
        allowing, wrong = 0, 0
        read: dict[Split, tuple[int, int]] = {"broad": (0, 0), "held-out": (0, 0)}
        for index, (things, goals, goal) in enumerate(scenes):
            allowed = False
            for split in read:
                if split == "broad" and held_out_kind(goal.task, kind):
                    continue
                rng = np.random.default_rng([index, len(found)])
                try:
                    drawn = sentences(goal, things, split, rng, {kind: 1.0})
                except UserError:
                    continue  # The scene does not allow the kind.
                allowed = True
                for sentence in islice(drawn, _EACH):
                    reading = read_in_scene(sentence.text, things, goals)
                    n, right = read[split]
                    read[split] = n + 1, right + (reading.goal == goal)
                    wrong += reading.goal not in (None, goal)
            allowing += allowed
        found.append(Coverage(kind, allowing, len(scenes), read, wrong))
    return found


def page(coverages: Sequence[Coverage], command: str) -> str:
    """The page in Markdown."""
    return "\n".join(
        [
            "# Language",
            "",
            f"Made by `{command}`; do not edit by hand.",
            "",
            _INTRODUCTION,
            "",
            "## Coverage",
            "",
            *_coverage(coverages),
            "",
            "## What is read, what is not, and why",
            "",
            "On a table with "
            + ", ".join(f"a {thing.name}" for thing in EXAMPLE[:-1])
            + f" and a {EXAMPLE[-1].name}:",
            "",
            *_examples(),
            "",
            "## Words",
            "",
            f"The language writes {len(all_words())} words. Training never holds "
            f"{len(all_words() - training_words())} of them: "
            + ", ".join(sorted(all_words() - training_words()))
            + ".",
            "",
            "It never asks for these tasks with these references, though it knows both:",
            "",
            *(
                f"- {task}: {'; '.join(kind for kind in SHARES if held_out_kind(task, kind))}"
                for task in TASKS
            ),
            "",
        ]
    )


_INTRODUCTION: Final = """\
One table (`vlm4vla/language/forms.py`, `vocabulary.py`, `meanings.py`) writes the sentences that a
policy is taught and reads the sentences that people type. A sentence is **known** if it was taught
word for word; **understood** if every word of it is accounted for and all that it can mean in the
scene is one goal; and **not judged** otherwise: it is carried out, and no success is told.

People speak of the table as they see it, from the side opposite the robot: left is where the
picture's left is, behind is towards the robot. The policy's picture and the larger one are turned
by 29 degrees against each other, so that a place counts only if it is so in both, by 1.5 cm or
more; "left of" and "behind" hold within 45 degrees. Where a thing stands only nearly so, the
sentence is not judged.

Slips of the finger are mended a word at a time, and shown. A word is mended only if it is no
English word and exactly one word of the language is one letter away (two from eight letters on):
"yelow" is "yellow", and "bell" is not "ball". Reading ends with the scene: "the red one" needs one
red thing, "dish" is the plate or the bowl that is there.

The reader is no parser generator's: patterns are finite, so a memoised reader in plain Python
gives every reading, and the same pattern writes."""


def _coverage(coverages: Sequence[Coverage]) -> list[str]:
    rows = [
        "| reference | scenes that allow it | broad: read rightly | held out: read rightly |"
        " read wrongly |",
        "|---|---|---|---|---|",
    ]
    for item in coverages:
        cells = [_rate(*item.read["broad"]), _rate(*item.read["held-out"])]
        rows.append(
            f"| {item.kind} | {item.scenes} of {item.of} | {' | '.join(cells)} | {item.wrong} |"
        )
    rows += [
        "",
        "Sentences are drawn for a goal in scenes of all five tasks, at most "
        f"{_EACH} for each scene and column, and read in the same scene; rates with 95 % Wilson"
        " intervals. A scene allows a kind where the object or the target is told by it alone. This"
        " says that writing and reading agree; whether people's own sentences are read rightly is"
        " tested with those of `tests/language/sentences.txt`.",
    ]
    return rows


def _rate(n: int, right: int) -> str:
    rate = wilson(right, n)
    return f"{right} of {n} ({100 * rate.low:.1f} to {100 * rate.high:.1f} %)" if n else "none"


def _examples() -> list[str]:
    lines = ["| sentence | reading |", "|---|---|"]
    for title, why, texts in EXAMPLES:
        lines.append(f"| **{title}** | {why} |")
        for text in texts:
            reading = read_in_scene(text, EXAMPLE, EXAMPLE_GOALS)
            mended = ", ".join(f'"{typed}" as "{read}"' for typed, read in reading.mended)
            lines.append(f"| {text} | {reading.sentence}{f' Read {mended}.' if mended else ''} |")
    return lines
