"""The parser: every meaning that a sentence can have, by the table that sentences are written by.

A reading accounts for every word of the sentence; nothing is skipped. Which things are meant is
found afterwards, in the scene.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from vlm4vla.language.forms import (
    ELSEWHERE,
    END,
    FORMS,
    NOUNS,
    QUALITIES,
    REFERENCES,
    START,
    Form,
)
from vlm4vla.language.meanings import Meaning, Noun, Reference, Relation
from vlm4vla.language.normal import CLOSING, split_words
from vlm4vla.language.vocabulary import (
    COLOUR_WORDS,
    ELSEWHERE_COLOURS,
    ELSEWHERE_KINDS,
    GENERIC_WORDS,
    KIND_WORDS,
)


@dataclass(frozen=True)
class Parsed:
    """One way to read a sentence.

    Attributes:
        meaning: what it asks for.
        target_kinds: the kinds that its preposition and its task leave for the target.
        form: how it asks.
    """

    meaning: Meaning
    target_kinds: tuple[str, ...]
    form: Form

    @property
    def fits(self) -> bool:
        """Whether the target is, or may be, of a kind that the task takes."""
        kind = self.meaning.target.noun.kind if self.meaning.target else None
        return kind is None or kind in self.target_kinds


def read(text: str) -> tuple[Meaning, ...]:
    """Every meaning that a sentence can have, in the order of the table; none if it is not read."""
    found = [parsed.meaning for parsed in parses(split_words(text)) if parsed.fits]
    return tuple(dict.fromkeys(found))


def parses(words: Sequence[str]) -> list[Parsed]:
    """Every way to read the words of a sentence, a target of the wrong kind included."""
    # A comma joins two clauses, or says nothing.
    joined = ["and" if word == "," else word for word in words]
    variants = [[word for word in words if word != ","], *([joined] if joined != words else [])]
    return list(dict.fromkeys(found for v in variants for found in _Reader(v).sentence()))


class _Reader:
    """Reads one sentence; what a reference can be is worked out once for each place."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._references: dict[int, list[tuple[int, Reference]]] = {}

    def sentence(self) -> Iterator[Parsed]:
        words = self.words
        starts = dict.fromkeys(start for start, _ in START.read(words, 0, _no_slots))
        for start in starts:
            if start == len(words):
                continue
            for form in _forms_from(words[start]):
                for end, bound in form.pattern.read(words, start, self.slot):
                    # "Pick up the ball. Thanks!" is one sentence and not two.
                    closed = end < len(words) and not set(words[end]) - set(CLOSING)
                    after = end + 1 if closed else end
                    if any(stop == len(words) for stop, _ in END.read(words, after, _no_slots)):
                        yield _parsed(form, bound)

    def slot(self, name: str, start: int) -> Iterator[tuple[int, Reference]]:
        for end, reference in self.references(start):
            if name != "compact" or reference.relation not in ELSEWHERE:
                yield end, reference

    def references(self, start: int) -> list[tuple[int, Reference]]:
        if start not in self._references:
            found = dict.fromkeys(
                (end, reference)
                for relation, patterns in REFERENCES.items()
                for pattern in patterns
                for end, bound in pattern.read(self.words, start, self.part)
                if (reference := _reference(relation, bound)) is not None
            )
            self._references[start] = list(found)
        return self._references[start]

    def part(self, name: str, start: int) -> Iterator[tuple[int, Any]]:
        """Slots of references."""
        match name:
            case "the":
                yield start, None
                if self.words[start : start + 1] in (["the"], ["a"], ["an"]):
                    yield start + 1, None
            case "noun":
                yield from self.nouns(start, NOUNS)
            case "anchor":
                for after, _ in self.part("the", start):
                    yield from self.nouns(after, NOUNS)
            case _:
                yield from self.nouns(start, QUALITIES[name])

    def nouns(self, start: int, patterns: dict[str, Any]) -> Iterator[tuple[int, Noun]]:
        for pattern in patterns.values():
            for end, bound in pattern.read(self.words, start, self.word):
                senses = dict(bound)
                yield end, Noun(senses.get("colour"), senses.get("kind"))

    def word(self, name: str, start: int) -> Iterator[tuple[int, str]]:
        """Slots of nouns: once for each sense of the word."""
        if start < len(self.words):
            for sense in _senses(name).get(self.words[start], ()):
                yield start + 1, sense


def _no_slots(name: str, start: int) -> Iterator[tuple[int, Any]]:
    raise AssertionError(f"courtesy has no slot {name!r}")


@cache
def _senses(slot: str) -> dict[str, tuple[str, ...]]:
    words = {
        "colour": COLOUR_WORDS + ELSEWHERE_COLOURS,
        "kind": KIND_WORDS + ELSEWHERE_KINDS,
        "generic": GENERIC_WORDS,
    }[slot]
    return {word.text: word.senses for word in words}


@cache
def _forms_from(word: str) -> tuple[Form, ...]:
    """The forms that can begin with a word."""
    return tuple(form for form in FORMS if form.pattern.can_begin_with(word))


def _parsed(form: Form, bound: tuple[tuple[str, Reference], ...]) -> Parsed:
    target, kinds, thing = None, "", None
    for name, reference in bound:
        if name.startswith("target:"):
            target, kinds = reference, name.removeprefix("target:")
        else:
            thing = reference
    assert thing is not None, "every form has an object"
    return Parsed(Meaning(form.task, thing, target), tuple(kinds.split(",")) if kinds else (), form)


def _reference(relation: Relation | None, bound: tuple[tuple[str, Any], ...]) -> Reference | None:
    """The reference, or None for one that contradicts or says nothing of itself."""
    noun = next(value for name, value in bound if name == "noun")
    anchors = tuple(value for name, value in bound if name in ("anchor", *QUALITIES))
    if relation == "other than":
        (without,) = anchors
        if (without.colour and noun.colour) or (without.kind and noun.kind):
            return None
    elif len(set(anchors)) < len(anchors):
        return None
    return Reference(noun, relation, anchors)
