"""Text normalisation: one sentence means the same however it was typed."""

import re
import unicodedata
from typing import Final

NORMALISATION: Final = "nfkc-lower-v1"
"""The name that a checkpoint declares for `normalise`."""

CLOSING: Final = ".!?…"
"""Punctuation that may close a sentence and says nothing about what it asks for."""

_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_JOINING: Final = re.compile(r"(?<=\w)-(?=\w)")


def normalise(text: str) -> str:
    """Unicode NFKC, lower case, single spaces, typewriter apostrophes, no closing punctuation.

    Closing punctuation is dropped at the end alone, with the spaces around it. A text of nothing
    else becomes empty.
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    # Lower case may leave what NFKC composes, such as a dot above an i.
    text = unicodedata.normalize("NFKC", text.lower())
    return " ".join(text.split()).rstrip(f" {CLOSING}")


def split_words(text: str) -> list[str]:
    """The words of a sentence as the grammar reads them.

    A hyphen within a word parts it in two. Commas, full stops between sentences and whatever else
    is no letter are words of their own, so that nothing is passed over in silence.
    """
    text = _JOINING.sub(" ", normalise(text))
    found: list[str] = []
    start = 0
    for match in _WORD.finditer(text):
        found += text[start : match.start()].split()
        found.append(match.group())
        start = match.end()
    return found + text[start:].split()
