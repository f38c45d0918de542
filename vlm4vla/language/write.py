"""The realiser: sentences for meanings, from the table of forms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from vlm4vla.language import forms as table
from vlm4vla.language.forms import ELSEWHERE, END, FORMS, NOUNS, REFERENCES, START, Form
from vlm4vla.language.meanings import Meaning, Noun, Reference, Task
from vlm4vla.language.patterns import Filter, Literal, Pattern, Slot, anything, training
from vlm4vla.language.vocabulary import GENERIC_WORDS, Word, words_for

_THE: Final = 0.85
_NO_ARTICLE: Final = 0.1
"""How often a reference has "the" and none; the rest have "a"."""


@dataclass(frozen=True)
class Style:
    """What may be drawn besides the meaning.

    Attributes:
        held_out: whether held-out words and forms may be drawn; else only those of training.
        synonyms: how often a colour or a kind is said with any of its words; else with its
            canonical one.
        courtesy: how often something polite is said before, and after.
    """

    held_out: bool = False
    synonyms: float = 0.5
    courtesy: float = 0.25


ANY_STYLE: Final = Style(held_out=True)


@dataclass(frozen=True)
class Written:
    """A sentence and what was drawn for it.

    Attributes:
        text: the sentence.
        meaning: what it means.
        form: how it asks.
        names: (colour word, kind word) of its nouns in their order, "" where one is not said.
    """

    text: str
    meaning: Meaning
    form: Form
    names: tuple[tuple[str, str], ...]


def write(
    meaning: Meaning,
    rng: np.random.Generator,
    style: Style = ANY_STYLE,
    target_kind: str | None = None,
) -> Written:
    """Draws a sentence for a meaning.

    Args:
        meaning: what it is to say.
        rng: what is drawn from.
        style: what may be drawn.
        target_kind: of the thing that the target refers to, so that "the blue one" is something to
            be "in" or "on"; if None, what the meaning says of it.
    """
    kind = target_kind or (meaning.target.noun.kind if meaning.target else None)
    may = _taking(kind, style.held_out)
    compact = meaning.object.relation not in ELSEWHERE
    forms = _forms(meaning.task, kind, style.held_out, compact)
    form = forms[int(rng.integers(len(forms)))]
    writer = _Writer(rng, style)
    words = [*writer.courtesy(START), *writer.task(form, meaning, may), *writer.courtesy(END)]
    return Written(" ".join(_with_articles(words)), meaning, form, tuple(writer.names))


class _Writer:
    """Draws words and notes the names."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self.rng = rng
        self.style = style
        self.may = anything if style.held_out else training
        self.names: list[tuple[str, str]] = []

    def choose(self, count: int) -> int:
        return int(self.rng.integers(count)) if count > 1 else 0

    def courtesy(self, pattern: Pattern) -> list[str]:
        if self.rng.random() >= self.style.courtesy:
            return []
        return pattern.write(self.choose, lambda slot: [], self.may)

    def task(self, form: Form, meaning: Meaning, may: Filter) -> list[str]:
        def fill(slot: str) -> list[str]:
            if slot.startswith("target"):
                assert meaning.target is not None
                return self.reference(meaning.target)
            return self.reference(meaning.object)

        return form.pattern.write(self.choose, fill, may)

    def reference(self, reference: Reference) -> list[str]:
        anchors = list(reference.anchors)
        if len(anchors) == 2 and self.choose(2):
            anchors.reverse()

        def fill(slot: str) -> list[str]:
            match slot:
                case "the":
                    return self.article()
                case "noun":
                    return self.noun(reference.noun)
                case "anchor":
                    return [*self.article(), *self.noun(anchors.pop(0))]
                case _:
                    return self.quality(slot, anchors.pop(0))

        patterns = [p for p in REFERENCES[reference.relation] if p.can_be_written(self.may)]
        return patterns[self.choose(len(patterns))].write(self.choose, fill, self.may)

    def article(self) -> list[str]:
        drawn = self.rng.random()
        return ["the"] if drawn < _THE else [] if drawn < _THE + _NO_ARTICLE else ["a"]

    def noun(self, noun: Noun) -> list[str]:
        return NOUNS[looks(noun)].write(self.choose, self.words(noun), self.may)

    def quality(self, slot: str, noun: Noun) -> list[str]:
        pattern = table.QUALITIES[slot]["colour" if noun.colour else "kind"]
        return pattern.write(self.choose, self.words(noun), self.may)

    def words(self, noun: Noun) -> Callable[[str], list[str]]:
        words = {"generic": self.word(GENERIC_WORDS)}
        if noun.colour:
            words["colour"] = self.word(words_for(noun.colour))
        if noun.kind:
            words["kind"] = self.word(words_for(noun.kind))
        self.names.append((words.get("colour", ""), words.get("kind", "")))
        return lambda slot: [words[slot]]

    def word(self, among: Sequence[Word]) -> str:
        options = [word.text for word in among if self.style.held_out or not word.held_out]
        if self.rng.random() >= self.style.synonyms:
            options = options[:1]
        return options[self.choose(len(options))]


def looks(noun: Noun) -> str:
    """What a noun says of a thing's looks: a key of `NOUNS`."""
    if noun.colour and noun.kind:
        return "named"
    return "colour" if noun.colour else "kind" if noun.kind else "object"


@cache
def _taking(kind: str | None, held_out: bool) -> Filter:
    """Lets through the words that may be drawn, and the target slots that take a kind."""
    words = anything if held_out else training

    def may(leaf: Literal | Slot) -> bool:
        if isinstance(leaf, Slot) and kind and leaf.name.startswith("target:"):
            return kind in leaf.name.removeprefix("target:").split(",")
        return words(leaf)

    return may


@cache
def _forms(task: Task, kind: str | None, held_out: bool, every: bool) -> tuple[Form, ...]:
    """The forms that can be written; without those for `{compact}` unless `every`."""
    return tuple(
        form
        for form in FORMS
        if form.task == task
        and (held_out or form.known != "held out")
        and (every or not form.compact)
        and form.pattern.can_be_written(_taking(kind, held_out))
    )


def _with_articles(words: list[str]) -> list[str]:
    """The words with "an" before vowels."""
    following = [*words[1:], ""]
    return [
        "an" if word == "a" and after.startswith(tuple("aeiou")) else word
        for word, after in zip(words, following, strict=True)
    ]
