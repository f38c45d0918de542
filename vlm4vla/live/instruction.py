"""What visitors type: which sentences are accepted, what they mean, and which are offered."""

import unicodedata
from collections.abc import Sequence

from vlm4vla.errors import UserError
from vlm4vla.language.draw import goal_key
from vlm4vla.language.reading import Reading, judged_as, read_in_scene
from vlm4vla.suites.tabletop.instructions import MAX_CHARACTERS, Goal, Task, paraphrases
from vlm4vla.suites.tabletop.scene import Scene, things


def accept(text: object) -> str:
    """Returns the sentence without the spaces around it.

    Args:
        text: what came from outside.

    Raises:
        UserError: it is no text, is empty or too long, or holds characters that cannot be shown.
    """
    if not isinstance(text, str):
        raise UserError("The instruction is not text.", "Type it as one plain line.")
    sentence = text.strip()
    if not sentence:
        raise UserError("There is no instruction yet.", "Type one, or choose a suggestion.")
    if len(sentence) > MAX_CHARACTERS:
        raise UserError(
            f"The instruction has {len(sentence)} characters; {MAX_CHARACTERS} are allowed.",
            "Say it more briefly.",
        )
    # Unicode's "other" categories: control, format, surrogate, private and unassigned characters.
    hidden = [letter for letter in sentence if unicodedata.category(letter).startswith("C")]
    if hidden:
        raise UserError(
            f"The instruction holds a character that cannot be shown (U+{ord(hidden[0]):04X}).",
            "Type it as one plain line.",
        )
    return sentence


def understand(text: object, scene: Scene) -> Reading:
    """Accepts a sentence and reads it in a scene.

    Raises:
        UserError: see `accept`.
    """
    goals = [(goal.task, goal.object, goal.target) for goal in scene.goals()]
    return read_in_scene(accept(text), things(scene), goals)


def goal_in(reading: Reading) -> Goal | None:
    """What success is judged by, or None."""
    return Goal(*reading.goal) if reading.goal else None


def suggestions(scene: Scene, task: Task) -> list[str]:
    """One sentence for every goal of a task; the wording varies with the scene's seed."""
    sentences = []
    for index, goal in enumerate(scene.goals(task)):
        wordings = paraphrases(goal)
        sentences.append(wordings[(scene.seed + index) % len(wordings)])
    return sentences


def sentence_for(scene: Scene, names: Sequence[str]) -> str:
    """The plainest sentence about one thing, or about a thing and where it goes.

    Args:
        scene: where they stand.
        names: one or two things, in the order in which they were pointed at.

    Returns:
        "" where nothing can be done with them.
    """
    for goal in scene.goals():
        asked = (goal.object, *([goal.target] if goal.target else []))
        # One thing can be touched as well as lifted: who points at it wants to see more.
        if asked == tuple(names) and goal.task != "reach":
            return judged_as(goal_key(goal.task, goal.object, goal.target))
    return ""
