import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.live.fake_simulators import FakeEnvironment, FakeSimulators, Still
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.errors import UserError
from vlm4vla.live import session
from vlm4vla.live.session import STEPS_PER_SECOND, Finished, Frame, Waiting, look, play
from vlm4vla.live.simulators import Readiness
from vlm4vla.suites.registry import TABLETOP

SPEC = TABLETOP.spec("pick", 0, Condition())


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    return Archive.open()


def moments(simulators: Any, visitor: str = "a", spec: Any = SPEC, kind: Any = "expert") -> Any:
    return play(simulators, visitor, Still(kind), spec, Archive.open(), {"kind": "known"})


def test_every_step_is_shown_and_the_outcome_comes_last() -> None:
    simulators = FakeSimulators()
    seen = list(moments(simulators))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert [frame.step for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [int(frame.view[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [[event.name for event in frame.events] for frame in frames[1:4]] == [
        [],
        ["reached"],
        ["reached"],
    ]
    assert isinstance(seen[-2], Outcome)
    assert seen[-2].success
    assert isinstance(seen[-1], Finished)
    assert seen[-1].episode.outcome == seen[-2]
    assert simulators.busy == 0


def test_a_finished_episode_is_kept_with_its_film_and_how_its_sentence_was_read(
    archive: Archive,
) -> None:
    *_, finished = moments(FakeSimulators())
    kept = archive.table.get(finished.episode.id)
    assert (kept.source, kept.reading, kept.steps) == ("live", {"kind": "known"}, 5)
    assert kept.actions.shape == (5, 7)
    film = archive.films.path(kept.id)
    assert film is not None
    assert film.read_bytes() == finished.film
    assert finished.problem == ""


@pytest.mark.parametrize("kind", ["expert", "policy"])
def test_both_pictures_are_of_the_same_step_whoever_acts(kind: Any) -> None:
    seen = list(moments(FakeSimulators(), kind=kind))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert len(frames) == 6
    for frame in frames:
        assert frame.view.shape == (16, 16, 3)
        assert frame.image.shape == (8, 8, 3)
        assert frame.view[0, 0, 0] == frame.image[0, 0, 0] == frame.step


def test_an_episode_ends_after_the_most_steps_that_were_allowed() -> None:
    seen = list(moments(FakeSimulators(), spec=replace(SPEC, condition=Condition(max_steps=3))))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert [frame.step for frame in frames] == [0, 1, 2, 3]
    assert frames[0].limit == 3
    finished = seen[-1]
    assert isinstance(finished, Finished)
    assert (finished.episode.outcome.kind, finished.episode.steps) == ("not grasped", 3)


def test_frames_come_no_faster_than_the_pace() -> None:
    seen = moments(FakeSimulators())
    times = [time.perf_counter() for moment in seen if isinstance(moment, Frame)]
    # The pace is kept inside; what is done around each frame moves it by a millisecond or two.
    assert times[-1] - times[0] >= 0.95 * 5 / STEPS_PER_SECOND


def test_closing_in_mid_episode_frees_the_simulator_and_the_place() -> None:
    simulators = FakeSimulators()
    running = moments(simulators)
    while not isinstance(next(running), Frame):
        pass
    assert simulators.busy == 1
    running.close()
    assert simulators.busy == 0
    assert simulators.queue.join("b").wait(0) == 0


def test_the_place_is_free_when_the_outcome_is_told_even_if_nobody_listens_on() -> None:
    simulators: Any = FakeSimulators()
    running = moments(simulators)
    while not isinstance(next(running), Outcome):
        pass
    assert simulators.busy == 0
    assert simulators.queue.join("b").wait(0) == 0
    running.close()


@pytest.mark.parametrize("inside", [True, False])
def test_an_episode_that_is_forgotten_gives_its_place_back(
    inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_FORGOTTEN_SECONDS", 0.3)
    simulators: Any = FakeSimulators()
    before = None if inside else simulators.queue.join("somebody else")
    running = moments(simulators)
    while not isinstance(next(running), Frame if inside else Waiting):
        pass
    assert simulators.busy == int(inside)
    if before:
        before.leave()
    time.sleep(0.8)
    assert simulators.busy == 0
    assert simulators.queue.join("b").wait(0) == 0
    with pytest.raises(UserError, match="Nobody watched"):
        next(running)


def test_a_stopped_episode_says_so_is_not_kept_and_frees_the_simulator(
    archive: Archive,
) -> None:
    simulators = FakeSimulators()
    seen = []
    for moment in moments(simulators):
        seen.append(moment)
        if isinstance(moment, Frame) and moment.step == 3:
            simulators.queue.stop("a")
    assert isinstance(seen[-1], Outcome)
    assert (seen[-1].kind, seen[-2].step) == ("stopped", 3)
    assert archive.table.count() == 0
    assert simulators.busy == 0


def test_a_newer_episode_of_the_same_visitor_ends_the_older_one_without_a_word() -> None:
    simulators = FakeSimulators()
    old = moments(simulators)
    while not isinstance(next(old), Frame):
        pass
    new = moments(simulators)
    assert next(new) == Waiting(1)
    assert list(old) == []
    assert isinstance(list(new)[-1], Finished)


def test_others_are_told_their_place_until_it_is_their_turn() -> None:
    simulators = FakeSimulators()
    first, second, third = (
        moments(simulators, "a"),
        moments(simulators, "b"),
        moments(simulators, "c"),
    )
    while not isinstance(next(first), Frame):
        pass
    assert [next(second), next(third)] == [Waiting(1), Waiting(2)]
    with pytest.raises(UserError, match="waiting already"):
        next(moments(simulators, "d"))
    list(first)
    assert isinstance(list(second)[-1], Finished)
    assert isinstance(list(third)[-1], Finished)


def test_a_simulator_that_dies_is_an_error_and_its_place_is_free_again() -> None:
    simulators = FakeSimulators(dies_at=3)
    with pytest.raises(UserError, match="process ended"):
        list(moments(simulators))
    assert simulators.busy == 0
    assert simulators.queue.join("b").wait(0) == 0


def test_a_mistake_in_the_simulator_is_told_as_a_sentence_and_frees_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulators: Any = FakeSimulators(dies_at=3, dies_of=RuntimeError("device lost\nat 0x1"))
    running = moments(simulators)
    with pytest.raises(UserError, match=r"RuntimeError: device lost\)\. Start it again\."):
        list(running)
    assert simulators.busy == 0
    assert simulators.queue.join("b").wait(0) == 0
    # Whoever runs the app finds out where it happened.
    assert "Traceback" in capsys.readouterr().err
    simulators = FakeSimulators(dies_at=0, dies_of=RuntimeError("device lost"))
    with pytest.raises(UserError, match="device lost"):
        list(look(simulators, "a", SPEC))
    assert simulators.busy == 0


def test_a_mistake_in_the_policy_is_told_as_a_sentence_and_frees_the_simulator(
    archive: Archive,
) -> None:
    class Mistaken(Still):
        def act(self, observation: Any) -> Any:
            return super().act(observation) if observation.step < 2 else [][0]

    simulators: Any = FakeSimulators()
    seen = []
    with pytest.raises(UserError, match=r"mistake in the program \(IndexError"):
        for moment in play(simulators, "a", Mistaken("policy"), SPEC, archive, {}):
            seen.append(moment)
    assert [moment.step for moment in seen if isinstance(moment, Frame)] == [0, 1, 2]
    assert (simulators.busy, archive.table.count()) == (0, 0)


def test_without_a_renderer_the_reason_is_the_error() -> None:
    simulators: Any = FakeSimulators()
    simulators.readiness = Readiness("unavailable", "There is no Vulkan driver.", "Install one.")
    with pytest.raises(UserError, match=r"no Vulkan driver\. Install one\."):
        list(moments(simulators))
    with pytest.raises(UserError, match="no Vulkan driver"):
        list(look(simulators, "a", SPEC))


def test_looking_shows_the_scene_before_the_first_step() -> None:
    simulators: Any = FakeSimulators()
    seen = list(look(simulators, "a", SPEC))
    assert [type(moment) for moment in seen] == [Frame]
    assert seen[0].step == 0
    assert simulators.busy == 0


def test_a_scene_that_another_one_replaced_while_it_was_loaded_is_not_shown() -> None:
    simulators: Any = FakeSimulators()

    class Slow(FakeEnvironment):
        def reset(self, spec: Any, cameras: Any = ()) -> Any:
            newer.append(simulators.queue.join("a"))
            return super().reset(spec, cameras)

    newer: list[Any] = []
    simulators._new_environment = partial(Slow, simulators.gate)
    assert list(look(simulators, "a", SPEC)) == []
    assert (simulators.busy, newer[0].wait(0)) == (0, 0)
