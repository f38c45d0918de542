import pytest

from vlm4vla.core.episode import Event
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.outcome import judge

PICK = Goal("pick", "red cube")
PLACE = Goal("place", "red cube", "blue bowl")


@pytest.mark.parametrize(
    ("goal", "events", "kind"),
    [
        (PICK, ["reached", "grasped", "success"], "success"),
        (PICK, ["wrong_object", "reached", "success"], "success"),
        (PICK, ["reached", "wrong_object", "dropped", "timeout"], "wrong object"),
        (PLACE, ["reached", "grasped", "dropped", "knocked", "timeout"], "dropped"),
        (PLACE, ["reached", "knocked", "timeout"], "knocked"),
        (PICK, ["timeout"], "not reached"),
        (PICK, ["reached", "timeout"], "not grasped"),
        (PLACE, ["reached", "grasped", "timeout"], "out of time"),
        (Goal("push", "red cube", "blue zone"), ["reached", "timeout"], "out of time"),
    ],
)
def test_the_events_decide_how_an_episode_ended(goal: Goal, events: list[str], kind: str) -> None:
    happened = [Event(step, name) for step, name in enumerate(events)]
    outcome = judge(goal, happened, 60, stopped=False)
    assert outcome.kind == kind
    assert outcome.success == (kind == "success")
    assert "60 steps" in outcome.sentence
    assert outcome.measures == {"wrong_object": "wrong_object" in events}


def test_sentences_name_the_object_the_place_and_the_time() -> None:
    done = judge(PLACE, [Event(30, "success")], 30, stopped=False)
    assert done.sentence == (
        "The robot put the red cube in the blue bowl in 30 steps (1.5 s of the robot's time)."
    )
    missed = judge(PICK, [Event(60, "timeout")], 60, stopped=False)
    assert missed.sentence == (
        "After 60 steps (3.0 s of the robot's time) the robot had not lifted the red cube: "
        "it never touched the red cube."
    )


def test_an_episode_that_a_person_ended_is_neither_success_nor_failure() -> None:
    outcome = judge(PICK, [Event(3, "reached")], 4, stopped=True)
    assert outcome.kind == "stopped"
    assert "Stopped after 4 steps" in outcome.sentence


def test_success_in_the_very_step_of_the_stop_is_success() -> None:
    assert judge(PICK, [Event(9, "success")], 9, stopped=True).success
