"""What a tokenizer learns the language from."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from vlm4vla.language.kinds import all_words
from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.meanings import ANCHORS, TARGET_KINDS, TASKS, Meaning, Noun, Reference, Task
from vlm4vla.language.vocabulary import COLOURS, KINDS, MOVABLE
from vlm4vla.language.write import Style, write

_SENTENCES: Final = 500
"""Broad sentences for each task."""

_REPEATS: Final = 24
"""How often every word stands in the corpus besides: enough to become a token or two."""


def corpus(seed: int = 0) -> Iterator[str]:
    """Known and broad sentences, then every word of the language several times.

    Held-out words are among them: a tokenizer learns how a word is spelled, not what it means.
    """
    rng = np.random.default_rng(seed)
    for task in TASKS:
        for index in range(_SENTENCES):
            meaning = any_meaning(task, rng)
            yield write(meaning, rng, Style(held_out=index % 2 == 0)).text
            template = TEMPLATES[task].train[index % len(TEMPLATES[task].train)]
            yield fill(template, *_names(meaning))
    words = sorted(all_words())
    for index in range(_REPEATS):
        for word, other in zip(words, words[index + 1 :] + words[: index + 1], strict=True):
            yield f"{word} {other}"


def any_meaning(task: Task, rng: np.random.Generator) -> Meaning:
    """Draws a meaning of a task, whatever stands on the table."""
    thing = _any_reference(MOVABLE, rng)
    kinds = TARGET_KINDS[task]
    return Meaning(task, thing, _any_reference(kinds, rng) if kinds else None)


def _names(meaning: Meaning) -> tuple[str, str | None]:
    """Names with a meaning's looks, red and a fitting kind where none are said."""
    kinds = TARGET_KINDS[meaning.task]
    target = _name(meaning.target.noun, kinds[0]) if meaning.target else None
    return _name(meaning.object.noun, "cube"), target


def _name(noun: Noun, kind: str) -> str:
    return f"{noun.colour or 'red'} {noun.kind or kind}"


def _any_reference(kinds: Sequence[str], rng: np.random.Generator) -> Reference:
    """Any looks, half of the time with a relation to any things."""
    noun = _any_noun(kinds, rng)
    if rng.random() < 0.5:
        return Reference(noun)
    relation = list(ANCHORS)[int(rng.integers(len(ANCHORS)))]
    if relation == "other than":
        colour, kind = _one(COLOURS, rng), _one(KINDS, rng)
        if noun.colour:
            return Reference(Noun(noun.colour), relation, (Noun(None, kind),))
        return Reference(noun, relation, (Noun(colour),))
    anchors: dict[Noun, None] = {}
    while len(anchors) < ANCHORS[relation]:
        anchors[_any_noun(KINDS, rng)] = None
    return Reference(noun, relation, tuple(anchors))


def _any_noun(kinds: Sequence[str], rng: np.random.Generator) -> Noun:
    colour, kind = _one(COLOURS, rng), _one(kinds, rng)
    return (Noun(colour, kind), Noun(colour, kind), Noun(colour), Noun(None, kind))[
        int(rng.integers(4))
    ]


def _one(among: Sequence[str], rng: np.random.Generator) -> str:
    return among[int(rng.integers(len(among)))]
