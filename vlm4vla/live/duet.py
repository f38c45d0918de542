"""Two live sessions in step: two agents on the same scene, each in a simulator of its own."""

import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final, NamedTuple

from vlm4vla.core.agent import Agent
from vlm4vla.core.episode import EpisodeSpec
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live.session import Frame, Moment, Waiting, play
from vlm4vla.live.simulators import Simulators

PATIENCE_SECONDS: Final = 15.0
"""How long one of two simulators is held while the other is not free; less than a session may be
left without being asked for its next moment."""

_joining = threading.Lock()
"""Two who join behind each other never hold what a pair before them waits for."""


class Part(NamedTuple):
    """One of the two.

    Attributes:
        agent: who acts.
        spec: what is asked for.
        reading: how the instruction was understood, plain values.
    """

    agent: Agent
    spec: EpisodeSpec
    reading: Mapping[str, Any]


Pair = tuple[Moment, Moment]


def play_both(
    simulators: Simulators,
    visitor: str,
    parts: tuple[Part, Part],
    archive: Archive,
    address: str = "",
) -> Generator[Pair, None, None]:
    """Plays and keeps two episodes in step, once it is the visitor's turn.

    Both begin together, and after every control step of one comes one of the other; whichever is
    over first stays as it ended. Each pair holds the last moment of either.

    Args:
        simulators: where.
        visitor: for whom; see `stop_both`.
        parts: the two.
        archive: where the episodes are kept.
        address: see `vlm4vla.live.session.play`.

    Raises:
        UserError: two simulators were not free together, or see `vlm4vla.live.session.play`.
    """
    playing = [
        play(simulators, name, part.agent, part.spec, archive, part.reading, address)
        for name, part in zip(_names(visitor), parts, strict=True)
    ]
    latest: list[Moment] = [Waiting(1), Waiting(1)]
    ended = [False, False]
    alone_since = 0.0

    def advance(index: int) -> None:
        try:
            latest[index] = next(playing[index])
        except StopIteration:
            ended[index] = True

    with ThreadPoolExecutor(2) as threads:
        try:
            with _joining:
                advance(0)
                advance(1)
            while not all(ended):
                yield latest[0], latest[1]
                begun = [isinstance(one, Frame) for one in latest]
                waits = [isinstance(one, Waiting) for one in latest]
                both = not any(waits) or any(ended)
                if begun[0] == begun[1] or both:
                    alone_since = 0.0
                elif not alone_since:
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > PATIENCE_SECONDS:
                    raise UserError(
                        "Only one of two simulators was free.", "Press Run again in a moment."
                    )
                # One that has its first picture stands still until the other has one, too.
                due = [i for i in (0, 1) if not ended[i] and (both or not begun[i])]
                asked = [threads.submit(advance, index) for index in due]
                # Both, also where the first fails: a generator that runs cannot be closed.
                wait(asked)
                for done in asked:
                    done.result()
        finally:
            # No thread is in either of them: what was asked for was waited for.
            for one in playing:
                one.close()


def stop_both(simulators: Simulators, visitor: str) -> None:
    """Ends both of a visitor's sessions."""
    for name in _names(visitor):
        simulators.queue.stop(name)


def _names(visitor: str) -> tuple[str, str]:
    return f"{visitor}, A", f"{visitor}, B"
