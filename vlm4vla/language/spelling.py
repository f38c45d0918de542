"""Spelling correction, a word at a time: slips of the finger, never another word."""

import json
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple

from rapidfuzz.distance import OSA

from vlm4vla.language.kinds import read_words

_MOST: Final = 2
"""A sentence with more unknown words than this is not mended: it is about something else."""

_SHORT: Final = 4
_LONG: Final = 8
"""Words from here on may lack, have or swap one letter, and two letters; in shorter ones only two
neighbours may be swapped."""


class Mended(NamedTuple):
    """A word that was typed, and the word that it is read as."""

    typed: str
    read: str


def mend(words: Iterable[str]) -> tuple[list[str], tuple[Mended, ...]] | None:
    """The words with slips put right, and what was put right; None if a word stays unknown.

    A word is mended only if exactly one word of the language is near enough and begins with the
    same letter (or with the first two swapped), if it is no English word itself, and if it is not
    that word with something added: "cubes" is no slip for "cube", nor "reddish" one for "red".
    """
    fixed: list[str] = []
    mended: list[Mended] = []
    for word in words:
        if word in read_words() or not word.isalpha():
            fixed.append(word)
            continue
        near = _near(word)
        if near is None or len(mended) == _MOST:
            return None
        fixed.append(near)
        mended.append(Mended(word, near))
    return fixed, tuple(mended)


@cache
def real_words() -> frozenset[str]:
    """English words that lie near enough to a word of the language to be taken for a slip of it.

    `benchmarks/real_words.py` makes the list, and must be run again when the language grows.
    """
    text = files(__package__).joinpath("real_words.json").read_text("utf-8")
    return frozenset(json.loads(text)["words"])


@lru_cache(1024)
def _near(word: str) -> str | None:
    if word in real_words():
        return None
    found = [other for other in read_words() if _is_slip(word, other)]
    return found[0] if len(found) == 1 else None


def _is_slip(typed: str, word: str) -> bool:
    if len(word) < _SHORT:
        return len(word) == len(typed) > 2 and _swapped(typed, word)
    most = 2 if len(word) >= _LONG else 1
    if OSA.distance(typed, word, score_cutoff=most) > most:
        return False
    if typed.startswith(word) or typed.endswith(word):
        return False
    return typed[0] == word[0] or _swapped(typed, word)


def _swapped(typed: str, word: str) -> bool:
    """Whether two neighbouring letters have changed places, and nothing else."""
    differ = [i for i, pair in enumerate(zip(typed, word, strict=False)) if pair[0] != pair[1]]
    return (
        len(typed) == len(word)
        and len(differ) == 2
        and differ[1] == differ[0] + 1
        and typed[differ[0]] == word[differ[1]]
        and typed[differ[1]] == word[differ[0]]
    )
