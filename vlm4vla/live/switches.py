"""Switches: what visitors change about their policy while its episode runs."""

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
        self._asked: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> None:
        """An episode begins, in which nothing was asked for yet."""
        with self._lock:
            self._asked[visitor] = []

    def ask(self, visitor: str, name: str) -> None:
        """Asks for one of `SWITCHES`; without an episode nothing happens."""
        with self._lock:
            if visitor in self._asked and name in SWITCHES:
                self._asked[visitor].append(name)

    def take(self, visitor: str) -> list[str]:
        """What was asked for since the last time."""
        with self._lock:
            asked = self._asked.get(visitor, [])
            if asked:
                self._asked[visitor] = []
            return asked

    def end(self, visitor: str) -> None:
        """The episode is over."""
        with self._lock:
            self._asked.pop(visitor, None)
