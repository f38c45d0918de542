import time
from typing import Any

import pytest

from tests.eval.fake_stage import FakeStage, Still
from vlm4vla.errors import UserError
from vlm4vla.eval import live
from vlm4vla.eval.live import STEPS_PER_SECOND, Frame, Waiting, look, play
from vlm4vla.eval.outcome import Outcome
from vlm4vla.eval.stage import Readiness
from vlm4vla.suites.tabletop.scene import sample_scene

SCENE = sample_scene("objects", 0)
GOAL = SCENE.goals("pick")[0]


def moments(stage: Any, visitor: str = "a") -> Any:
    return play(stage, visitor, Still(), SCENE, GOAL, "lift it")


def test_every_step_is_shown_and_the_outcome_comes_last() -> None:
    stage = FakeStage()
    seen = list(moments(stage))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert [frame.step for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [int(frame.view[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert [[item.event for item in frame.happenings] for frame in frames[1:4]] == [
        [],
        ["reached"],
        ["reached"],
    ]
    assert isinstance(seen[-1], Outcome)
    assert seen[-1].success
    assert stage.busy == 0


@pytest.mark.parametrize("wanted", [False, True])
def test_what_the_policy_looks_at_is_shown_only_if_it_was_asked_for(wanted: bool) -> None:
    stage: Any = FakeStage()
    seen = list(play(stage, "a", Still("policy"), SCENE, GOAL, "lift it", image=wanted))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert len(frames) == 6
    assert [frame.image is not None for frame in frames] == [wanted] * 6


def test_an_episode_ends_after_the_most_steps_that_were_allowed() -> None:
    stage: Any = FakeStage()
    seen = list(play(stage, "a", Still(), SCENE, GOAL, "lift it", most_steps=3))
    frames = [moment for moment in seen if isinstance(moment, Frame)]
    assert [frame.step for frame in frames] == [0, 1, 2, 3]
    assert frames[0].limit == 3
    outcome = seen[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.steps) == ("not grasped", 3)


def test_frames_come_no_faster_than_the_pace() -> None:
    seen = moments(FakeStage())
    times = [time.perf_counter() for moment in seen if isinstance(moment, Frame)]
    # The pace is kept inside; what is done around each frame moves it by a millisecond or two.
    assert times[-1] - times[0] >= 0.95 * 5 / STEPS_PER_SECOND


def test_closing_in_mid_episode_frees_the_simulator_and_the_place() -> None:
    stage = FakeStage()
    running = moments(stage)
    while not isinstance(next(running), Frame):
        pass
    assert stage.busy == 1
    running.close()
    assert stage.busy == 0
    assert stage.line.join("b").wait(0) == 0


def test_the_place_is_free_when_the_outcome_is_told_even_if_nobody_listens_on() -> None:
    stage: Any = FakeStage()
    running = moments(stage)
    while not isinstance(next(running), Outcome):
        pass
    assert stage.busy == 0
    assert stage.line.join("b").wait(0) == 0
    running.close()


@pytest.mark.parametrize("inside", [True, False])
def test_an_episode_that_is_forgotten_gives_its_place_back(
    inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_FORGOTTEN_SECONDS", 0.3)
    stage: Any = FakeStage()
    before = None if inside else stage.line.join("somebody else")
    running = moments(stage)
    while not isinstance(next(running), Frame if inside else Waiting):
        pass
    assert stage.busy == int(inside)
    if before:
        before.leave()
    time.sleep(0.8)
    assert stage.busy == 0
    assert stage.line.join("b").wait(0) == 0
    with pytest.raises(UserError, match="Nobody watched"):
        next(running)


def test_a_stopped_episode_says_so_and_frees_the_simulator() -> None:
    stage = FakeStage()
    seen = []
    for moment in moments(stage):
        seen.append(moment)
        if isinstance(moment, Frame) and moment.step == 3:
            stage.line.stop("a")
    assert isinstance(seen[-1], Outcome)
    assert (seen[-1].kind, seen[-1].steps) == ("stopped", 3)
    assert stage.busy == 0


def test_a_newer_episode_of_the_same_visitor_ends_the_older_one_without_a_word() -> None:
    stage = FakeStage()
    old = moments(stage)
    while not isinstance(next(old), Frame):
        pass
    new = moments(stage)
    assert next(new) == Waiting(1)
    assert list(old) == []
    assert isinstance(list(new)[-1], Outcome)


def test_others_are_told_their_place_until_it_is_their_turn() -> None:
    stage = FakeStage()
    first, second, third = moments(stage, "a"), moments(stage, "b"), moments(stage, "c")
    while not isinstance(next(first), Frame):
        pass
    assert [next(second), next(third)] == [Waiting(1), Waiting(2)]
    with pytest.raises(UserError, match="waiting already"):
        next(moments(stage, "d"))
    list(first)
    assert isinstance(list(second)[-1], Outcome)
    assert isinstance(list(third)[-1], Outcome)


def test_a_simulator_that_dies_is_an_error_and_its_place_is_free_again() -> None:
    stage = FakeStage(dies_at=3)
    with pytest.raises(UserError, match="process ended"):
        list(moments(stage))
    assert stage.busy == 0
    assert stage.line.join("b").wait(0) == 0


def test_without_a_renderer_the_reason_is_the_error() -> None:
    stage: Any = FakeStage()
    stage.readiness = Readiness("unavailable", "There is no Vulkan driver.", "Install one.")
    with pytest.raises(UserError, match=r"no Vulkan driver\. Install one\."):
        list(moments(stage))
    with pytest.raises(UserError, match="no Vulkan driver"):
        list(look(stage, "a", SCENE))


def test_looking_shows_the_scene_before_the_first_step() -> None:
    stage: Any = FakeStage()
    seen = list(look(stage, "a", SCENE))
    assert [type(moment) for moment in seen] == [Frame]
    assert seen[0].step == 0
    assert stage.busy == 0
