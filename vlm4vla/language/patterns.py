"""Patterns: one notation for phrase forms, which both writes sentences and reads them.

word          stands for itself
~word         the same, never in a training sentence
?word         the same, read and never written
(a | b c)     one of several
[a | b]       one of several, or nothing
{name}        a slot, filled or read by whoever uses the pattern
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

_TOKEN: Final = re.compile(r"[()|\[\]]|\{[^}]*\}|[^\s()|\[\]{}]+")


@dataclass(frozen=True)
class Literal:
    """A word."""

    text: str
    held_out: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Slot:
    """A gap with a name."""

    name: str


@dataclass(frozen=True)
class Sequential:
    """Parts in their order."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True)
class Choice:
    """One of several."""

    options: "tuple[Node, ...]"


Node = Literal | Slot | Sequential | Choice
Bindings = tuple[tuple[str, Any], ...]
"""What the slots of a reading hold, in their order."""
Reader = Callable[[str, int], Iterator[tuple[int, Any]]]
"""Slot and position -> where the slot's words end, and what they mean; once for each reading."""
Filter = Callable[["Literal | Slot"], bool]
Chooser = Callable[[int], int]
"""A number n -> one of 0..n-1."""


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern.

    Attributes:
        text: its notation.
        macros: patterns by name, put in wherever a slot has that name.
    """

    text: str
    macros: tuple[tuple[str, str], ...] = ()

    @cached_property
    def node(self) -> Node:
        """The pattern as a tree."""
        return _compile(self.text, dict(self.macros))

    def read(
        self, words: Sequence[str], start: int, slots: Reader
    ) -> Iterator[tuple[int, Bindings]]:
        """Every way the words from `start` on can be an instance: its end, and what it binds."""
        return _read(self.node, words, start, slots)

    def write(self, choose: Chooser, fill: Callable[[str], list[str]], may: Filter) -> list[str]:
        """Words of one instance; `can_be_written` must hold.

        Args:
            choose: draws among options.
            fill: slot -> its words.
            may: which words and slots may be drawn.
        """
        return _write(self.node, choose, fill, may)

    def can_be_written(self, may: Filter) -> bool:
        """Whether there is an instance of words and slots that may be drawn."""
        return _can_be_written(self.node, may)

    def can_begin_with(self, word: str) -> bool:
        """Whether an instance can begin with this word, or with a slot."""
        return any(
            isinstance(leaf, Slot) or leaf.text == word for leaf in _first_leaves(self.node)[0]
        )

    def leaves(self, may: Filter) -> Iterator["Literal | Slot"]:
        """The words and slots of all the instances that can be written, repeated as they are."""
        return _leaves(self.node, may)


def _compile(text: str, macros: dict[str, str]) -> Node:
    tokens = _TOKEN.findall(text)
    position = 0

    def options(close: str) -> list[Node]:
        nonlocal position
        found: list[Node] = []
        parts: list[Node] = []
        while position < len(tokens):
            token = tokens[position]
            position += 1
            if token == close:
                break
            if token == "|":
                found.append(_sequence(parts))
                parts = []
            elif token == "(":
                parts.append(_choice(options(")")))
            elif token == "[":
                parts.append(Choice((Sequential(()), *options("]"))))
            elif token in (")", "]"):
                raise ValueError(f"{token!r} closes nothing in {text!r}")
            elif token.startswith("{"):
                name = token[1:-1]
                parts.append(_compile(macros[name], macros) if name in macros else Slot(name))
            else:
                word = token.lstrip("~?")
                parts.append(Literal(word, token.startswith("~"), token.startswith("?")))
        else:
            if close:
                raise ValueError(f"{close!r} is missing in {text!r}")
        return [*found, _sequence(parts)]

    return _choice(options(""))


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Sequential(tuple(parts))


def _choice(options: list[Node]) -> Node:
    return options[0] if len(options) == 1 else Choice(tuple(options))


def _read(
    node: Node, words: Sequence[str], start: int, slots: Reader
) -> Iterator[tuple[int, Bindings]]:
    match node:
        case Literal(text):
            if start < len(words) and words[start] == text:
                yield start + 1, ()
        case Slot(name):
            for end, value in slots(name, start):
                yield end, ((name, value),)
        case Choice(options):
            for option in options:
                yield from _read(option, words, start, slots)
        case Sequential(parts):
            yield from _read_all(parts, words, start, slots)


def _read_all(
    parts: tuple[Node, ...], words: Sequence[str], start: int, slots: Reader
) -> Iterator[tuple[int, Bindings]]:
    if not parts:
        yield start, ()
        return
    for middle, first in _read(parts[0], words, start, slots):
        for end, rest in _read_all(parts[1:], words, middle, slots):
            yield end, first + rest


def _write(node: Node, choose: Chooser, fill: Callable[[str], list[str]], may: Filter) -> list[str]:
    match node:
        case Literal(text):
            return [text]
        case Slot(name):
            return fill(name)
        case Sequential(parts):
            return [word for part in parts for word in _write(part, choose, fill, may)]
        case Choice(options):
            among = [option for option in options if _can_be_written(option, may)]
            return _write(among[choose(len(among))], choose, fill, may)


def _can_be_written(node: Node, may: Filter) -> bool:
    match node:
        case Sequential(parts):
            return all(_can_be_written(part, may) for part in parts)
        case Choice(options):
            return any(_can_be_written(option, may) for option in options)
        case Literal() | Slot():
            return may(node)


def _leaves(node: Node, may: Filter) -> Iterator[Literal | Slot]:
    match node:
        case Literal() | Slot():
            yield node
        case Sequential(children) | Choice(children):
            for child in children:
                if _can_be_written(child, may):
                    yield from _leaves(child, may)


def _first_leaves(node: Node) -> tuple[list[Literal | Slot], bool]:
    """What instances can begin with, and whether there is an instance without words."""
    found: list[Literal | Slot] = []
    match node:
        case Literal() | Slot():
            return [node], False
        case Choice(options):
            each = [_first_leaves(option) for option in options]
            return [leaf for leaves, _ in each for leaf in leaves], any(empty for _, empty in each)
        case Sequential(parts):
            for part in parts:
                leaves, empty = _first_leaves(part)
                found += leaves
                if not empty:
                    return found, False
            return found, True


def anything(leaf: Literal | Slot) -> bool:
    """Lets every word through that is ever written."""
    return isinstance(leaf, Slot) or not leaf.read_only


def training(leaf: Literal | Slot) -> bool:
    """Lets through what training sentences hold."""
    return isinstance(leaf, Slot) or not (leaf.read_only or leaf.held_out)


def everything(leaf: Literal | Slot) -> bool:
    """Lets through what is only read, too."""
    return True
