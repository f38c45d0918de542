"""Switches: what visitors change about their policy while its episode runs."""

import itertools
import threading
from typing import Final

from vlm4vla.core.condition import OTHER_OBJECT

BLIND: Final = "picture-blank"
SWAP: Final = OTHER_OBJECT
SWITCHES: Final = (BLIND, SWAP)
"""The perturbations that can begin in mid-run."""


class Switches:
    """What was asked for and is not yet done, by visitor. May be shared by threads."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, list[str]]] = {}
        self._begun = itertools.count()
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> int:
        """An episode begins, in which nothing was asked for yet.

        Returns:
            Its number. What the visitor asks for is meant for the episode that began last; one
            that it replaces may end later.
        """
        with self._lock:
            number = next(self._begun)
            self._asked[visitor] = (number, [])
            return number

    def ask(self, visitor: str, name: str) -> None:
        """Asks for one of `SWITCHES`; without an episode nothing happens."""
        with self._lock:
            if visitor in self._asked and name in SWITCHES:
                self._asked[visitor][1].append(name)

    def take(self, visitor: str, number: int) -> list[str]:
        """What was asked for of this episode since the last time."""
        with self._lock:
            current, asked = self._asked.get(visitor, (number, []))
            if current != number:
                return []
            taken = asked.copy()
            asked.clear()
            return taken

    def end(self, visitor: str, number: int) -> None:
        """The episode is over."""
        with self._lock:
            if visitor in self._asked and self._asked[visitor][0] == number:
                del self._asked[visitor]
