"""The written rules, on lanes that were made up, and on real episodes with a planted fault."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.inspection.examples import still_episode
from tests.inspection.planted import Fault, episode_of
from vlm4vla.eval.failures import FailureLabel, Finding, label
from vlm4vla.inspection.diagnosis import WINDOW, diagnose, parting_of
from vlm4vla.inspection.lanes import lanes_of
from vlm4vla.inspection.states import states_of
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.suite import goal_of

NAMED = {
    "none": ("as the expert",),
    "corner": ("nowhere",),
    "swapped": ("another goal", "aimed elsewhere"),
    "late": ("late fingers",),
}
"""The rules that name a planted fault."""

FIRST_SEED = 3000
"""The rules were written with the scenes 1000 to 1049 in view."""


def different(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


@pytest.mark.parametrize(
    ("steps", "parting"),
    [
        ("." * 20, None),
        ("x" * 20, 0),
        ("....xxxxxxxxxxxx", 4),
        # An agreement of a step or two does not bring them together again.
        ("....xxxxxx.xxxxx.xxxx", 4),
        # One that lasts does.
        ("xxxxxxxx" + "........" + "xxxxxxxxxx", 16),
        # Having left for long, it left then, whatever it did at the end.
        ("x" * 24 + "." * 12 + "x" * 12, 0),
        ("...." + "x" * 24 + "." * 12, 4),
        # Nothing is for good in the last steps.
        ("." * 16 + "x" * (WINDOW - 1), None),
        ("xxxx", None),
    ],
)
def test_they_part_where_most_steps_differ_for_long(steps: str, parting: int | None) -> None:
    assert parting_of(different(steps), success=False) == parting


@pytest.mark.parametrize(
    ("wrong", "parting"),
    [
        # The departure that was under way when it went wrong, however short it was up to there.
        (38, 36),
        (30, 0),
        # One that was over, and the next one had not begun: the first that lasts.
        (35, 0),
        # A label at the end is about all of the episode.
        (60, 0),
        (None, 0),
    ],
)
def test_they_part_where_what_went_wrong_began(wrong: int | None, parting: int) -> None:
    steps = different("x" * 20 + "." * 16 + "x" * 24)
    assert parting_of(steps, success=False, wrong=wrong) == parting


@pytest.mark.parametrize(("wrong", "parting"), [(56, 36), (57, 0)])
def test_a_departure_that_was_long_over_is_not_what_went_wrong(wrong: int, parting: int) -> None:
    # Most of the 8 steps 41 to 48 still differ, so the second departure is over at 49: it counts
    # for 8 steps more, and then the first that lasts.
    steps = different("x" * 20 + "." * 16 + "x" * 10 + "." * 30)
    assert parting_of(steps, success=False, wrong=wrong) == parting


def test_people_look_first_at_the_moment_that_the_label_names() -> None:
    episode = still_episode(np.tile([0.5, 0, 0, 0, 0, 0, 1.0], (24, 1)))
    lanes = lanes_of(episode)
    for step, park in ((12, 12), (24, 0)):
        failure = FailureLabel("dropped", Finding(step, {}, "It was so."))
        found = diagnose(lanes, episode.outcome, failure)
        assert (found.failure, found.parting, found.park) == (failure, 0, park)
    assert diagnose(lanes, episode.outcome).failure is None


def test_how_far_commands_are_from_the_experts_is_said_where_no_rule_knows_more() -> None:
    # The hand stays where it is, so every step is the first one again.
    still = still_episode(np.tile([0.0, 0, 0, 0, 0, 0, 1.0], (24, 1)))
    wanted = expert.act(states_of(still)[0], goal_of(still.spec))
    astray = np.tile([*wanted[:2], wanted[2] + 0.5, 0, 0, 0, 1.0], (24, 1))
    lanes = lanes_of(still_episode(astray))
    said = diagnose(lanes, still.outcome).sentences
    assert said == "From the first step on its commands were 50 mm from the expert's."
    shut = np.tile([*wanted[:3], 0, 0, 0, -1.0], (24, 1))
    said = diagnose(lanes_of(still_episode(shut)), still.outcome).sentences
    assert said.endswith("told the fingers to close where the expert would have opened them.")


def test_there_is_no_parting_where_the_goal_was_reached() -> None:
    assert parting_of(different("x" * 20), success=True) is None


@pytest.mark.parametrize("fault", ["none", "corner", "swapped", "late"])
def test_a_planted_fault_is_named(environment: Any, fault: Fault) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 2):
        episode, planted = episode_of(environment, fault, seed)
        said = diagnose(lanes_of(episode), episode.outcome, label(episode))
        assert said.kind in NAMED[fault], said
        if planted.other:
            assert said.about in (planted.other.object, planted.other.target)
        if fault == "corner":
            assert said.parting is not None and abs(said.parting - planted.first_step) <= 4
        if fault == "late":
            assert f"{planted.late} steps later" in said.sentences


@pytest.mark.long
@pytest.mark.parametrize("fault", ["none", "corner", "swapped", "late"])
def test_of_50_episodes_with_a_planted_fault_45_are_named(environment: Any, fault: Fault) -> None:
    said = Counter[str]()
    for seed in range(FIRST_SEED, FIRST_SEED + 50):
        episode, planted = episode_of(environment, fault, seed)
        found = diagnose(lanes_of(episode), episode.outcome, label(episode))
        right = not planted.other or found.about in (planted.other.object, planted.other.target)
        said[found.kind if right else f"{found.kind}, about the wrong thing"] += 1
    print(fault, dict(said))
    assert sum(said[kind] for kind in NAMED[fault]) >= 45
    wrong = set(said) - {"", *NAMED[fault]}
    assert not wrong, "where it does not know, it says nothing"
