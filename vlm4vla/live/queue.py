"""The queue for a scarce thing: first come, first served, one turn for a visitor."""

import threading
from typing import Literal

from vlm4vla.errors import UserError

End = Literal["", "stopped", "replaced"]


class Queue:
    """Lets `places` visitors in at a time; the others wait in order.

    A visitor who joins again takes no second place: the newest turn replaces the one before.

    Args:
        places: how many may be inside at once.
        longest: how many may wait.
        share: how many of those may have the same address; None for all.
    """

    def __init__(self, places: int, longest: int, share: int | None = None) -> None:
        self._places = places
        self._longest = longest
        self._share = share or longest
        self._condition = threading.Condition()
        self._waiting: list[Turn] = []
        self._inside: list[Turn] = []
        self._series: list[Series] = []

    def series(self, visitor: str) -> "Series":
        """Several turns of a visitor, one after another; whoever holds it must leave in the end.

        It ends as a turn does: when it is stopped, or when the visitor joins for something else.
        In between its turns the visitor waits at the end like everybody.
        """
        with self._condition:
            self._end(visitor, "replaced")
            begun = Series(self, visitor)
            self._series.append(begun)
            return begun

    def join(self, visitor: str, address: str = "", series: "Series | None" = None) -> "Turn":
        """A turn at the end of the queue; whoever holds it must leave in the end.

        Args:
            visitor: who.
            address: where from; "" for nobody in particular.
            series: of the visitor's, that this turn belongs to; None ends it.

        Raises:
            UserError: the queue is full, or the address has its share of it already.
        """
        with self._condition:
            if series and series.end:
                # It was stopped between two of its turns, or replaced by what has the turn now.
                ended = Turn(self, visitor, address)
                ended.end = series.end
                return ended
            self._end(visitor, "replaced", series)
            if len(self._waiting) >= self._longest:
                raise UserError(
                    f"{self._longest} visitors are waiting already.", "Try again in a minute."
                )
            near = sum(bool(address) and turn.address == address for turn in self._waiting)
            if near >= self._share:
                raise UserError(
                    f"{near} episodes of your address are waiting already.",
                    "Try again when one of them is done.",
                )
            turn = Turn(self, visitor, address)
            self._waiting.append(turn)
            self._advance()
            return turn

    def stop(self, visitor: str) -> None:
        """Ends the visitor's turn, whether it waits or is inside."""
        with self._condition:
            self._end(visitor, "stopped")

    def replace(self, visitor: str) -> None:
        """Ends the visitor's turn for something that needs none, as joining again would."""
        with self._condition:
            self._end(visitor, "replaced")

    def _end(self, visitor: str, end: End, besides: "Series | None" = None) -> None:
        all_held: list[Turn | Series] = [*self._waiting, *self._inside, *self._series]
        for held in all_held:
            if held.visitor == visitor and held is not besides and not held.end:
                held.end = end
        self._waiting = [turn for turn in self._waiting if not turn.end]
        self._advance()

    def _advance(self) -> None:
        # A replaced turn keeps its place until its owner has left, so that one visitor never has
        # two; the visitor behind goes first then.
        for turn in list(self._waiting):
            if len(self._inside) >= self._places:
                break
            if turn.visitor not in [other.visitor for other in self._inside]:
                self._waiting.remove(turn)
                self._inside.append(turn)
        self._condition.notify_all()


class Series:
    """Several turns of a visitor in a `Queue`.

    Attributes:
        visitor: whose they are.
        end: why there are no more: "stopped" or "replaced", or "" so far.
    """

    def __init__(self, queue: Queue, visitor: str) -> None:
        self._queue = queue
        self.visitor = visitor
        self.end: End = ""

    def __enter__(self) -> "Series":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Ends it; leaving twice does no harm."""
        with self._queue._condition:
            self._queue._series = [one for one in self._queue._series if one is not self]


class Turn:
    """A visitor's turn in a `Queue`.

    Attributes:
        visitor: whose it is.
        address: where from.
        end: why it is over: "stopped" by the visitor, "replaced" by a newer turn, or "" so far.
    """

    def __init__(self, queue: Queue, visitor: str, address: str = "") -> None:
        self._queue = queue
        self.visitor = visitor
        self.address = address
        self.end: End = ""

    def over(self) -> bool:
        """Whether it was stopped or replaced."""
        return self.end != ""

    def wait(self, seconds: float) -> int:
        """Waits to be let in, and returns the place in the queue: 0 inside, 1 for the next.

        A turn that is over has place 0, too.
        """
        queue = self._queue
        with queue._condition:
            queue._condition.wait_for(lambda: self not in queue._waiting, seconds)
            return queue._waiting.index(self) + 1 if self in queue._waiting else 0

    def leave(self) -> None:
        """Makes room for the next; leaving twice does no harm."""
        queue = self._queue
        with queue._condition:
            queue._waiting = [turn for turn in queue._waiting if turn is not self]
            queue._inside = [turn for turn in queue._inside if turn is not self]
            queue._advance()
