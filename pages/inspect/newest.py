"""Which stream of a visitor's page is the newest: what was asked for before is not gone on with."""

import threading
from collections.abc import Callable
from typing import Final

_MOST_PAGES: Final = 1_000


class NewestStream:
    """The newest stream of each page that is open. May be shared by threads."""

    def __init__(self) -> None:
        self._newest: dict[str, object] = {}
        self._lock = threading.Lock()

    def begin(self, page: str) -> Callable[[], bool]:
        """A stream begins on a page; gives what tells whether another has begun there since."""
        mine = object()
        with self._lock:
            self._newest.pop(page, None)
            self._newest[page] = mine
            while len(self._newest) > _MOST_PAGES:
                self._newest.pop(next(iter(self._newest)))
        return lambda: self._newest.get(page) is not mine
