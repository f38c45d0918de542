"""Two sessions in step, in simulators that play the same short episode."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.live.fake_simulators import FakeSimulators, Still
from vlm4vla.ablation.agent import PerturbedAgent
from vlm4vla.ablation.words import changes_of
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


def test_what_one_perturbed_policy_is_given_is_shown_beside_what_the_other_is(
    archive: Archive,
) -> None:
    spec = TABLETOP.spec("pick", 3, Condition())
    changes = changes_of(["picture-blank", "level=7", "sentence-empty"])
    changed = replace(spec, condition=Condition(perturbations=changes))
    both = (
        Part(Still("policy"), spec, {}),
        Part(PerturbedAgent(Still("policy")), changed, {}),
    )
    for a, b in play_both(FakeSimulators(places=2), "one", both, archive):
        if isinstance(a, Frame) and isinstance(b, Frame):
            # Pictures of these simulators hold the number of the step.
            assert (set(a.image.ravel()), a.changes) == ({a.step}, ())
            assert (set(b.image.ravel()), b.told, b.changes) == ({7}, "", changes)
            assert set(b.view.ravel()) == {b.step}


def test_where_one_fails_while_the_other_is_busy_its_reason_is_told(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def fails(*asked: Any) -> Any:
        yield Waiting(0)
        raise UserError("It died.")

    def slow(*asked: Any) -> Any:
        try:
            yield Waiting(0)
            time.sleep(0.3)
            yield Waiting(0)
        finally:
            closed.append("slow")

    ways = iter((fails, slow))
    monkeypatch.setattr(duet, "play", lambda *asked: next(ways)(*asked))
    with pytest.raises(UserError, match="It died"):
        list(play_both(FakeSimulators(places=2), "one", parts(), archive))
    assert closed == ["slow"]
