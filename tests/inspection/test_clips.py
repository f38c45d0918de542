"""Clips around a label's step, where they are kept, and who may have how many drawn."""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.inspection.test_sheets import Painter
from tests.suites.tabletop.moved import episode_of
from tests.waiting import until
from vlm4vla.core.episode import Trace
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.inspection import clip_maker
from vlm4vla.inspection.clip_maker import ClipMaker, TooManyError
from vlm4vla.inspection.clips import REST, SIDE, Clips, draw_clip, moments_of


@pytest.mark.parametrize(
    ("steps", "step", "first", "last"),
    # At 20 steps a second: 20 steps before and 10 after, or as many at an end.
    [(100, 50, 30, 60), (100, 100, 70, 100), (100, 3, 0, 12), (9, 4, 0, 8)],
)
def test_a_clip_shows_a_second_before_and_half_a_second_after(
    steps: int, step: int, first: int, last: int
) -> None:
    found = moments_of(steps, step, 20)
    assert (found[0], found[-1], found.step) == (first, last, 2)


def test_a_clip_is_a_film_of_these_moments() -> None:
    episode = episode_of("pick", steps=60)
    painter = Painter()
    film = draw_clip(episode, 30, painter)  # type: ignore[arg-type]
    assert [pose.joints.tolist() for pose in painter.asked] == [
        episode.trace.joints[step].tolist() for step in range(10, 41, 2)
    ]
    with av.open(io.BytesIO(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(frames) == 16 + REST and frames[0].shape == (SIDE, SIDE, 3)
    # The painter's n-th picture is grey of 10 n; H.264 is off by a little.
    assert [round(frame.mean() / 10) for frame in frames] == [*range(1, 17), *[16] * REST]


def test_the_clips_looked_at_longest_ago_make_room(tmp_path: Path) -> None:
    clips = Clips(tmp_path, limit_bytes=30)
    some = [episode_of("pick", steps=1, seed=seed) for seed in range(5)]
    for place, one in enumerate(some[:3]):
        path = clips.put(one, 1, b"x" * 10)
        os.utime(path, (place, place))
    assert clips.path(some[0], 2) is None
    assert clips.path(some[0], 1) is not None  # and so it was looked at last
    clips.put(some[3], 1, b"x" * 10)
    assert [place for place, one in enumerate(some) if clips.path(one, 1)] == [0, 2, 3]
    # One that is larger than all that may be kept stays until the next one comes.
    clips.put(some[4], 1, b"x" * 99)
    assert [place for place, one in enumerate(some) if clips.path(one, 1)] == [4]


def test_the_clip_of_an_episode_that_was_replaced_is_not_shown(tmp_path: Path) -> None:
    clips, first = Clips(tmp_path), episode_of("pick", steps=1)
    path = clips.put(first, 1, b"x")
    again = replace(first, trace=Trace(first.trace.joints, first.trace.poses + np.float32(0.01)))
    assert again.id == first.id
    assert clips.path(first, 1) == path and clips.path(again, 1) is None


class Studio:
    """A maker over a table of twelve episodes, whose simulator waits for `gate`."""

    def __init__(self, folder: Path) -> None:
        self.table = EpisodeTable.in_memory()
        self.keys = [
            self.table.put(episode_of("pick", steps=4, seed=seed, outcome="not reached"))
            for seed in range(12)
        ]
        self.gate = threading.Event()
        self.now = 0.0
        self.lent = 0
        self.problem: Exception | None = None
        self.maker = ClipMaker(self.table, Clips(folder), self.lend, lambda: self.now)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Any]:
        self.lent += 1
        self.gate.wait(30)
        if self.problem:
            raise self.problem
        yield Painter()

    def ask(self, place: int, address: str = "here") -> Path | None:
        return self.maker.ask(self.keys[place], 2, address)

    def made(self, place: int) -> Path:
        episode = self.table.get(self.keys[place])
        until(lambda: self.maker.clips.path(episode, 2) is not None, 30)
        path = self.ask(place)
        assert path is not None
        return path


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    yield made
    made.gate.set()


def test_who_asks_is_never_kept_waiting_and_a_clip_is_drawn_once(studio: Studio) -> None:
    assert studio.ask(0) is None
    assert studio.ask(0) is None
    studio.gate.set()
    assert studio.made(0).stat().st_size > 500
    assert studio.lent == 1


def test_what_was_drawn_before_an_episode_was_replaced_is_drawn_again(studio: Studio) -> None:
    studio.gate.set()
    studio.ask(0)
    first = studio.made(0)
    old = studio.table.get(studio.keys[0])
    moved = Trace(old.trace.joints, old.trace.poses + np.float32(0.01))
    assert studio.table.put(replace(old, trace=moved)) == old.id
    assert studio.ask(0) is None
    assert studio.made(0) != first and studio.lent == 2


def test_of_what_is_not_there_there_can_be_no_clip(studio: Studio) -> None:
    with pytest.raises(UserError, match="no such stored episode"):
        studio.maker.ask("0" * 16, 2, "here")
    assert studio.lent == 0


def test_an_address_has_its_share_of_what_waits(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_maker, "SHARE", 2)
    monkeypatch.setattr(clip_maker, "MOST_WAITING", 3)
    studio.ask(0)
    studio.ask(1)
    with pytest.raises(TooManyError):
        studio.ask(2)
    assert studio.ask(2, "there") is None
    with pytest.raises(TooManyError):
        studio.ask(3, "elsewhere")
    # To ask again for what waits is no new wish.
    assert studio.ask(1) is None


def test_an_address_has_only_so_many_drawn_in_an_hour(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_maker, "AN_HOUR", 2)
    studio.gate.set()
    for place in range(2):
        studio.ask(place)
        studio.made(place)
    with pytest.raises(TooManyError, match="2 clips"):
        studio.ask(2)
    # What is there is shown as often as anybody likes.
    assert studio.ask(0) is not None
    studio.now = 3601
    assert studio.ask(2) is None


def test_what_nobody_asks_for_any_more_is_not_drawn(studio: Studio) -> None:
    for place in range(4):
        studio.ask(place)
    until(lambda: studio.lent == 1, 30)
    studio.now = clip_maker.FORGOTTEN_SECONDS + 1
    studio.ask(3)
    studio.gate.set()
    studio.made(3)
    # The first was being drawn already.
    assert studio.lent == 2


def test_what_cannot_be_drawn_is_said_and_not_tried_again_at_once(studio: Studio) -> None:
    studio.problem = RuntimeError("no device")
    studio.gate.set()
    studio.ask(0)

    def told() -> bool:
        try:
            return studio.ask(0) is not None
        except UserError:
            return True

    until(told, 30)
    with pytest.raises(UserError, match="no device"):
        studio.ask(0)
    assert studio.lent == 1
    studio.problem, studio.now = None, clip_maker.FAILED_SECONDS + 1
    assert studio.ask(0) is None
    studio.made(0)
    assert studio.lent == 2
