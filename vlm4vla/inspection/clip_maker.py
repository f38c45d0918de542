"""The maker of clips: one at a time in the background, and a share of it for each address."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vlm4vla.core.environment import Environment
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError, surprises_told
from vlm4vla.inspection.clips import Clips, draw_clip
from vlm4vla.inspection.sheets import part_shown

MOST_WAITING: Final = 48
"""Clips that may wait to be drawn, two pages of cards."""

SHARE: Final = 8
"""Of them, those of one address: a browser asks for a few at a time."""

AN_HOUR: Final = 360
"""Clips that are drawn for one address in an hour, fifteen pages of cards."""

FORGOTTEN_SECONDS: Final = 6.0
"""Who does not ask again so long has turned to something else; the clip is not drawn then."""

FAILED_SECONDS: Final = 60.0
"""A clip that could not be drawn is not tried again so soon."""

_MOST_FAILED: Final = 1_000


class TooManyError(UserError):
    """More is asked for than is drawn: ask again later."""


@dataclass
class _Wish:
    """A clip that waits to be drawn.

    Attributes:
        address: who asked first.
        asked: when somebody asked last, on the monotonic clock.
    """

    address: str
    asked: float


class ClipMaker:
    """Draws clips that are asked for, one at a time, as long as somebody goes on asking.

    Nobody waits in it: whoever asks is told at once whether the clip is there.

    Args:
        table: where the episodes are.
        clips: where clips are kept.
        lend: a simulator, for one clip.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        table: EpisodeTable,
        clips: Clips,
        lend: Callable[[], AbstractContextManager[Environment]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clips = clips
        self.table = table
        self._lend = lend
        self._clock = clock
        self._lock = threading.Lock()
        self._wishes: dict[tuple[str, int], _Wish] = {}
        self._failed: dict[tuple[str, int], tuple[float, UserError]] = {}
        self._drawn: dict[str, deque[float]] = {}
        self._drawing = False

    def ask(self, key: str, step: int, address: str) -> Path | None:
        """A clip, or None while it is being made; ask again then.

        Args:
            key: the episode's id.
            step: which its label is about.
            address: whose share of the drawing it counts for.

        Raises:
            TooManyError: too many wait, or were drawn for this address.
            UserError: there can be no such clip.
        """
        wish = key, step
        if path := self.clips.path(self.table.get(key), step):
            return path
        with self._lock:
            now = self._clock()
            self._forget(now)
            if wish in self._failed:
                raise self._failed[wish][1]
            if wish in self._wishes:
                self._wishes[wish].asked = now
                return None
            self._admit(address, now)
            self._wishes[wish] = _Wish(address, now)
            self._drawn.setdefault(address, deque()).append(now)
            if not self._drawing:
                self._drawing = True
                threading.Thread(target=self._draw_all, name="clips", daemon=True).start()
        return None

    def _admit(self, address: str, now: float) -> None:
        near = Counter(one.address for one in self._wishes.values())[address]
        if len(self._wishes) >= MOST_WAITING or near >= SHARE:
            raise TooManyError("Many clips wait to be drawn.", "Ask again in a moment.")
        if len(self._drawn.get(address, ())) >= AN_HOUR:
            raise TooManyError(
                f"{AN_HOUR} clips were drawn for your address in this hour.",
                "Look at the drawings from above, or come back later.",
            )

    def _forget(self, now: float) -> None:
        """Drops what nobody asks for any more, and what was long ago."""
        for wish, one in list(self._wishes.items()):
            if now - one.asked > FORGOTTEN_SECONDS:
                del self._wishes[wish]
        for wish, (when, _) in list(self._failed.items()):
            if now - when > FAILED_SECONDS:
                del self._failed[wish]
        for address, times in list(self._drawn.items()):
            while times and now - times[0] > 3600:
                times.popleft()
            if not times:
                del self._drawn[address]

    def _draw_all(self) -> None:
        while True:
            with self._lock:
                self._forget(self._clock())
                wish = next(iter(self._wishes), None)
                if wish is None:
                    self._drawing = False
                    return
            problem = self._draw(*wish)
            with self._lock:
                self._wishes.pop(wish, None)
                if problem:
                    self._failed[wish] = self._clock(), problem
                    while len(self._failed) > _MOST_FAILED:
                        del self._failed[next(iter(self._failed))]

    def _draw(self, key: str, step: int) -> UserError | None:
        """Draws and keeps a clip, or tells what went wrong."""
        try:
            with surprises_told("The clip"):
                episode = self.table.get(key)
                # Asked before a simulator is: not every episode tells where things were.
                part_shown(episode)
                with self._lend() as environment:
                    clip = draw_clip(episode, step, environment)
                self.clips.put(episode, step, clip)
        except UserError as error:
            return error
        return None
