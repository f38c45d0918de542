import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators, Still
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live import session
from vlm4vla.live.elsewhere import other_scenes, play_elsewhere
from vlm4vla.live.queue import Queue
from vlm4vla.live.request import choose, take_request
from vlm4vla.live.session import Finished, Frame, play
from vlm4vla.suites.registry import TABLETOP

CYLINDER = "lift the orange cylinder"


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(session, "STEPS_PER_SECOND", 1000)
    return Archive.open()


def asked(sentence: str = CYLINDER, seed: int = 0) -> Any:
    return take_request(FakeCatalogue(), "pick", seed, sentence, "expert", 0, 0)


def test_the_scenes_are_those_that_hold_what_is_named() -> None:
    found = list(islice(other_scenes(asked()), 8))
    numbers = [one.choice.scene.seed for one in found]
    holding = [
        seed
        for seed in range(1, numbers[-1] + 1)
        if "orange cylinder" in [thing.name for thing in choose("pick", seed).scene.objects]
    ]
    assert numbers == holding
    for one in found:
        assert one.goal is not None and one.goal.object == "orange cylinder"
        assert one.spec.seed == one.choice.scene.seed
        assert one.spec.goal["object"] == "orange cylinder"


def test_after_the_last_scene_comes_the_first() -> None:
    numbers = [one.choice.scene.seed for one in islice(other_scenes(asked(seed=7)), 400)]
    assert 7 not in numbers
    late = next(
        seed
        for seed in range(199_999, 199_000, -1)
        if "orange cylinder" in [thing.name for thing in choose("pick", seed).scene.objects]
    )
    assert next(other_scenes(asked(seed=late))).choice.scene.seed == 0


def test_eight_episodes_are_played_one_after_another_and_kept(archive: Archive) -> None:
    simulators: Any = FakeSimulators()
    seen = list(play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive))
    ends = [(one.number, one.moment) for one in seen if isinstance(one.moment, Finished)]
    assert [number for number, _ in ends] == list(range(8))
    kept = {end.episode.id for _, end in ends}
    assert len(kept) == 8 == archive.table.count()
    assert {archive.table.get(one).spec.instruction for one in kept} == {CYLINDER}
    assert (simulators.busy, simulators.most_busy) == (0, 1)


def test_somebody_else_has_a_turn_after_each_episode(archive: Archive) -> None:
    simulators: Any = FakeSimulators(longest=3)
    mine = play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive)
    while not isinstance(next(mine).moment, Frame):
        pass
    # Somebody waits now, so my next episode comes after theirs.
    other = simulators.queue.join("b")
    numbers = []
    for one in mine:
        numbers.append(one.number)
        if one.number == 1:
            break
    assert numbers[-1] == 1 and other.wait(0) == 0
    assert simulators.busy == 0
    mine.close()
    other.leave()
    assert simulators.queue.join("c").wait(0) == 0


@pytest.mark.parametrize("during", [Frame, Finished])
def test_stop_ends_all_of_them_whenever_it_comes(archive: Archive, during: Any) -> None:
    simulators: Any = FakeSimulators()
    seen = []
    for one in play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive):
        seen.append(one)
        if isinstance(one.moment, during) and one.number == 2:
            simulators.queue.stop("a")
    assert {one.number for one in seen} == {0, 1, 2}
    last = [one.moment for one in seen if isinstance(one.moment, Outcome)][-1]
    assert last.kind == ("stopped" if during is Frame else "success")
    assert simulators.busy == 0 and simulators.queue.join("b").wait(0) == 0


@pytest.mark.parametrize("during", [Frame, Finished])
def test_something_new_of_the_same_visitor_ends_them(archive: Archive, during: Any) -> None:
    simulators: Any = FakeSimulators(longest=3)
    spec = TABLETOP.spec("pick", 0, Condition())
    newer = None
    numbers = set()
    for one in play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive):
        numbers.add(one.number)
        if isinstance(one.moment, during) and newer is None:
            newer = play(simulators, "a", Still(), spec, archive, {})
            next(newer)
    assert numbers == {0}
    assert newer is not None
    assert isinstance(list(newer)[-1], Finished)


def test_leaving_in_the_middle_frees_everything(archive: Archive) -> None:
    simulators: Any = FakeSimulators()
    seen = play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive)
    while not isinstance(next(seen).moment, Frame):
        pass
    seen.close()
    assert simulators.busy == 0 and simulators.queue.join("b").wait(0) == 0
    assert threading.active_count() < 50


def test_a_sentence_that_means_nothing_elsewhere_is_told(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm4vla.live.elsewhere.other_scenes", lambda asked: iter(()))
    simulators: Any = FakeSimulators()
    with pytest.raises(UserError, match="in none of the next 1,000 scenes"):
        list(play_elsewhere(simulators, simulators.queue.series("a"), asked(), archive))


def test_a_series_has_one_turn_at_a_time_at_the_end_of_the_queue() -> None:
    line = Queue(places=1, longest=5)
    series = line.series("a")
    first = line.join("a", series=series)
    other = line.join("b")
    first.leave()
    second = line.join("a", series=series)
    assert (other.wait(0), second.wait(0)) == (0, 1)
    assert (first.end, second.end, series.end) == ("", "", "")
    second.leave()
    line.stop("a")
    assert series.end == "stopped" and line.join("a", series=series).over()
    series.leave()
    assert line.join("a").end == ""
