"""Keeps live episodes that come to their end: a record and a video in the store."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm4vla.data.pictures import encode_preview
from vlm4vla.errors import UserError
from vlm4vla.eval.live import Frame, Moment
from vlm4vla.eval.outcome import CONTROL_HZ, Outcome
from vlm4vla.eval.store import Record, Store
from vlm4vla.suites.tabletop.instructions import Task

_HOLD_SECONDS: Final = 1
"""How long the video stays on its last picture, so that it can be seen when the video loops."""


@dataclass(frozen=True)
class Asked:
    """What an episode is about, in the words of `Record`."""

    driver: str
    task: Task
    seed: int
    instruction: str
    condition: str
    goal: str


@dataclass(frozen=True)
class Kept:
    """A finished episode.

    Attributes:
        record: what was asked and what happened.
        video: MP4 at the robot's own pace.
        problem: why it could not be stored; "" if it was.
    """

    record: Record
    video: bytes
    problem: str = ""


def keep(
    moments: Generator[Moment, None, None], store: Store, asked: Asked
) -> Generator[Moment | Kept, None, None]:
    """Passes an episode on and stores it when it has come to its end, as the last item.

    One that a person stopped or left is not stored: it could not be run again to the same end.

    Args:
        moments: the episode, as `vlm4vla.eval.live.play` gives it; closed in any case.
        store: where it goes.
        asked: what it is about.
    """
    frames: list[Frame] = []
    try:
        for moment in moments:
            yield moment
            if isinstance(moment, Frame):
                frames.append(moment)
            elif isinstance(moment, Outcome) and moment.kind != "stopped":
                yield _stored(moment, frames, store, asked)
    finally:
        moments.close()


def _stored(outcome: Outcome, frames: list[Frame], store: Store, asked: Asked) -> Kept:
    record = Record(
        driver=asked.driver,
        task=asked.task,
        seed=asked.seed,
        instruction=asked.instruction,
        condition=asked.condition,
        goal=asked.goal,
        outcome=outcome.kind,
        sentence=outcome.sentence,
        steps=outcome.steps,
        happenings=tuple((item.step, item.event) for item in frames[-1].happenings),
    )
    views = [frame.view for frame in frames]
    views += views[-1:] * (_HOLD_SECONDS * CONTROL_HZ)
    video = encode_preview(np.stack(views), CONTROL_HZ)
    try:
        store.put(record, video)
    except UserError as error:
        return Kept(record, video, str(error))
    return Kept(record, video)
