"""What visitors type: which sentences are accepted, and which valid one is nearest."""

import difflib
import re
import unicodedata
from typing import NamedTuple

from vlm4vla.errors import UserError
from vlm4vla.language.normal import normalise
from vlm4vla.suites.tabletop.instructions import (
    MAX_CHARACTERS,
    Goal,
    Task,
    paraphrases,
    parse,
    words,
)
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, SHAPES


class Reading(NamedTuple):
    """What a sentence means in a scene.

    Attributes:
        sentence: the sentence as it is carried out.
        goal: what it asks for, or None if it is none of the known sentences.
        nearest: the known sentence that is most like it; the sentence itself if it is known.
        unknown: its words that no training sentence holds, in its order.
    """

    sentence: str
    goal: Goal | None
    nearest: str
    unknown: tuple[str, ...]


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


def read(text: object, scene: Scene) -> Reading:
    """Accepts a sentence and finds out what it means in a scene.

    Raises:
        UserError: see `accept`.
    """
    sentence = accept(text)
    goal = parse(sentence, scene.goals())
    known = {*words(), *COLOURS, *SHAPES, *FIXTURES}
    found = re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", normalise(sentence))
    unknown = tuple(dict.fromkeys(word for word in found if word not in known))
    return Reading(sentence, goal, sentence if goal else _nearest(sentence, scene), unknown)


def suggestions(scene: Scene, task: Task) -> list[str]:
    """One sentence for every goal of a task; the wording varies with the scene's seed."""
    sentences = []
    for index, goal in enumerate(scene.goals(task)):
        wordings = paraphrases(goal)
        sentences.append(wordings[(scene.seed + index) % len(wordings)])
    return sentences


def _nearest(sentence: str, scene: Scene) -> str:
    """The training sentence most like this one.

    Words count, so that the object named is kept, and letters, so that a slip of the finger does
    not matter.
    """
    wanted = normalise(sentence)
    by_words = difflib.SequenceMatcher(b=wanted.split())
    by_letters = difflib.SequenceMatcher(b=wanted)

    nearest, best = "", -1.0
    for candidate in [text for goal in scene.goals() for text in paraphrases(goal)]:
        by_words.set_seq1(candidate.split())
        by_letters.set_seq1(candidate)
        alike = by_words.ratio()
        # Comparing letters takes most of the time, and its bound none.
        if alike + by_letters.quick_ratio() > best and alike + by_letters.ratio() > best:
            nearest, best = candidate, alike + by_letters.ratio()
    return nearest
