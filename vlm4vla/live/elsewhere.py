"""The same sentence in other scenes: one after another, live, through the same queue."""

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

from vlm4vla import seeds
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.live.queue import Series
from vlm4vla.live.request import Request, choose
from vlm4vla.live.session import Moment, play
from vlm4vla.live.simulators import Simulators

SCENES: Final = 8

SEARCHED: Final = 1_000
"""Scenes that are looked through: drawing and reading one takes 8 ms, and one in forty holds both
things of a sentence about two."""


class Elsewhere(NamedTuple):
    """A moment in one of the scenes.

    Attributes:
        number: which, from 0.
        asked: what is carried out there.
        moment: what happens.
    """

    number: int
    asked: Request
    moment: Moment


def other_scenes(asked: Request, searched: int = SEARCHED) -> Iterator[Request]:
    """The same request in the scenes after its own in which its sentence has a meaning.

    After the last scene comes the first one. What the sentence means may differ: "the cube" is
    another one there.

    Args:
        asked: what was run.
        searched: how many scenes are looked at.
    """
    task, seed = asked.choice.task, asked.choice.scene.seed
    for offset in range(1, searched + 1):
        choice = choose(task, (seed + offset) % len(seeds.UNSEEN))
        reading = understand(asked.reading.text, choice.scene)
        if reading.judged:
            yield replace(asked, choice=choice, reading=reading, goal=goal_in(reading))


def play_elsewhere(
    simulators: Simulators,
    series: Series,
    asked: Request,
    archive: Archive,
    address: str = "",
    count: int = SCENES,
) -> Generator[Elsewhere, None, None]:
    """Plays the same request in the next scenes in which its sentence has a meaning.

    For each the visitor waits at the end of the queue, so others have their turns in between. It
    ends early when the visitor stops it or starts something else; closing the iterator frees the
    simulator.

    Args:
        simulators: where.
        series: of the visitor's, that the episodes belong to.
        asked: what was run.
        archive: where the episodes are kept.
        address: where the visitor asks from; "" for none.
        count: how many scenes.

    Raises:
        UserError: the sentence has a meaning in none of the scenes that are looked through; or
            see `play`.
    """
    found = 0
    for number, there in enumerate(islice(other_scenes(asked), count)):
        found += 1
        playing = play(
            simulators,
            series.visitor,
            there.entry.new_agent(),
            there.spec,
            archive,
            there.told,
            address,
            series=series,
        )
        with contextlib.closing(playing) as moments:
            for moment in moments:
                yield Elsewhere(number, there, moment)
        if series.end:
            return
    if not found:
        raise UserError(
            f"The sentence has a meaning in none of the next {SEARCHED:,} scenes.",
            "Say it about things that other scenes hold, too.",
        )
