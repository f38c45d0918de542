"""Two sessions in step, in simulators that play the same short episode."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.fake_simulators import FakeSimulators, Still
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.live import duet
from vlm4vla.live.duet import Part, play_both, stop_both
from vlm4vla.live.session import Finished, Frame, Waiting
from vlm4vla.suites.registry import TABLETOP


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    table = EpisodeTable.in_memory()
    return Archive(table, Films(table, tmp_path))


def parts() -> tuple[Part, Part]:
    spec = TABLETOP.spec("pick", 3, Condition())
    return Part(Still("expert"), spec, {}), Part(Still("policy"), spec, {})


def test_both_begin_together_stay_in_step_and_are_kept(archive: Archive) -> None:
    simulators = FakeSimulators(places=2)
    seen = list(play_both(simulators, "one", parts(), archive))
    steps = [(a.step, b.step) for a, b in seen if isinstance(a, Frame) and isinstance(b, Frame)]
    assert steps == [(step, step) for step in range(6)]
    # Nobody moves while the other has no picture yet.
    assert all(a.step == 0 for a, b in seen if isinstance(a, Frame) and isinstance(b, Waiting))
    last = seen[-1]
    assert all(isinstance(one, Finished) and one.episode.outcome.success for one in last)
    assert archive.table.count() == 2
    assert simulators.busy == 0


def test_stop_ends_both(archive: Archive) -> None:
    simulators = FakeSimulators(places=2, lasts=50)
    seen = []
    for pair in play_both(simulators, "one", parts(), archive):
        seen.append(pair)
        if isinstance(pair[0], Frame) and pair[0].step == 2:
            stop_both(simulators, "one")
    assert all(isinstance(one, Outcome) and one.kind == "stopped" for one in seen[-1])
    assert archive.table.count() == 0 and simulators.busy == 0


def test_leaving_frees_both_simulators(archive: Archive) -> None:
    simulators = FakeSimulators(places=2, lasts=50)
    playing = play_both(simulators, "one", parts(), archive)
    for pair in playing:
        if isinstance(pair[0], Frame) and pair[0].step == 2:
            break
    assert simulators.busy == 2
    playing.close()
    assert simulators.busy == 0


def test_where_there_is_but_one_simulator_it_is_given_back(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duet, "PATIENCE_SECONDS", 0.2)
    simulators = FakeSimulators(places=1)
    with pytest.raises(UserError, match="Only one"):
        list(play_both(simulators, "one", parts(), archive))
    assert simulators.busy == 0


def test_two_pairs_do_not_wait_for_each_other_for_ever(archive: Archive) -> None:
    simulators = FakeSimulators(places=2, longest=8)
    told: list[Any] = []

    def watch(visitor: str) -> None:
        told.append(list(play_both(simulators, visitor, parts(), archive))[-1])

    threads = [threading.Thread(target=watch, args=(name,), daemon=True) for name in "abc"]
    for thread in threads:
        thread.start()
    limit = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
    assert len(told) == 3
    assert all(isinstance(one, Finished) for pair in told for one in pair)
    assert simulators.most_busy == 2
