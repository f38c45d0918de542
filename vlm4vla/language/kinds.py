"""Kinds of reference, and what is kept from training: words, and combinations of words."""

import zlib
from functools import cache
from typing import Final

from vlm4vla.language.forms import END, FORMS, NOUNS, QUALITIES, REFERENCES, START
from vlm4vla.language.meanings import Relation
from vlm4vla.language.patterns import Filter, Literal, anything, everything, training
from vlm4vla.language.vocabulary import (
    COLOUR_WORDS,
    ELSEWHERE_COLOURS,
    ELSEWHERE_KINDS,
    GENERIC_WORDS,
    KIND_WORDS,
)
from vlm4vla.language.write import Written, looks

KIND_OF_RELATION: Final[dict[Relation, str]] = {
    "leftmost": "leftmost, rightmost",
    "rightmost": "leftmost, rightmost",
    "on the left": "on the left, on the right",
    "on the right": "on the left, on the right",
    "nearest to": "nearest to",
    "farthest from": "farthest from",
    "between": "between",
    "behind": "behind, in front of",
    "in front of": "behind, in front of",
    "left of": "left of, right of",
    "right of": "left of, right of",
    "other than": "exclusion",
}
SHARES: Final[dict[str, float]] = {
    "named": 0.25,
    "synonym": 0.25,
    "colour alone": 0.08,
    "kind alone": 0.08,
    "leftmost, rightmost": 0.06,
    "on the left, on the right": 0.04,
    "nearest to": 0.05,
    "farthest from": 0.03,
    "between": 0.03,
    "behind, in front of": 0.04,
    "left of, right of": 0.04,
    "exclusion": 0.05,
}
"""Kinds of reference, and how often training draws each where the scene allows all of them."""

COMPARISONS: Final = tuple(dict.fromkeys(KIND_OF_RELATION.values()))
"""Kinds of reference that compare a thing with others: by where they are, or by exclusion."""

COMBINATIONS_HELD_OUT: Final = 5
"""One combination in so many is kept from training."""


def kind_of(written: Written) -> str:
    """How a sentence refers to things: the least usual of its references counts."""
    found = {"named"}
    for reference in (written.meaning.object, written.meaning.target):
        if reference and reference.relation:
            return KIND_OF_RELATION[reference.relation]
        if reference and looks(reference.noun) in ("colour", "kind"):
            found.add(f"{looks(reference.noun)} alone")
    if found == {"named"} and any(not _canonical(*pair) for pair in written.names):
        return "synonym"
    return max(found, key=list(SHARES).index)


def held_out(written: Written) -> str:
    """Why training never holds a sentence: "word", "combination", or "" if it may."""
    if not training_words().issuperset(written.text.split()):
        return "word"
    combined = (
        written.form.known == "held out"
        or any(held_out_pair(*pair) for pair in written.names)
        or held_out_kind(written.meaning.task, kind_of(written))
    )
    return "combination" if combined else ""


def held_out_pair(colour: str, kind: str) -> bool:
    """Whether training never says this colour word with this kind word."""
    return bool(colour and kind) and not _canonical(colour, kind) and _kept_out(colour, kind)


def held_out_kind(task: str, kind: str) -> bool:
    """Whether training never asks for this task with this kind of reference."""
    return kind not in ("named", "synonym") and _kept_out(task, kind)


def _kept_out(*combination: str) -> bool:
    return zlib.crc32(" ".join(combination).encode()) % COMBINATIONS_HELD_OUT == 0


@cache
def _canonical(colour: str, kind: str) -> bool:
    usual = {word.text for word in COLOUR_WORDS + KIND_WORDS if word.canonical}
    return usual.issuperset(filter(None, (colour, kind)))


@cache
def training_words() -> frozenset[str]:
    """Every word that a training sentence can hold."""
    lexicon = {word.text for word in _LEXICON if len(word.senses) == 1 and not word.held_out}
    return _ARTICLES | lexicon | _spoken(training)


@cache
def all_words() -> frozenset[str]:
    """Every word that a written sentence can hold."""
    return _ARTICLES | {w.text for w in _LEXICON if len(w.senses) == 1} | _spoken(anything)


@cache
def read_words() -> frozenset[str]:
    """Every word that is read, those for things that no scene holds among them."""
    elsewhere = {word.text for word in ELSEWHERE_COLOURS + ELSEWHERE_KINDS}
    return _ARTICLES | {word.text for word in _LEXICON} | elsewhere | _spoken(everything)


def _spoken(may: Filter) -> frozenset[str]:
    """The words of all forms."""
    patterns = [START, END, *NOUNS.values()]
    # The held-out templates hold no word that the others lack.
    patterns += [form.pattern for form in FORMS if form.known != "held out"]
    patterns += [pattern for among in REFERENCES.values() for pattern in among]
    patterns += [pattern for among in QUALITIES.values() for pattern in among.values()]
    return frozenset(
        leaf.text
        for pattern in patterns
        if pattern.can_be_written(may)
        for leaf in pattern.leaves(may)
        if isinstance(leaf, Literal)
    )


_ARTICLES: Final = frozenset({"the", "a", "an"})
_LEXICON: Final = (*COLOUR_WORDS, *KIND_WORDS, *GENERIC_WORDS)
