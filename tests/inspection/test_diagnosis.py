"""The written rules, on lanes that were made up, and on real episodes with a planted fault."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.inspection.planted import Fault, episode_of
from vlm4vla.inspection.diagnosis import WINDOW, diagnose, parting_of
from vlm4vla.inspection.lanes import lanes_of

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
        # Nothing is for good in the last steps.
        ("." * 16 + "x" * (WINDOW - 1), None),
        ("xxxx", None),
    ],
)
def test_they_part_where_most_steps_differ_to_the_end(steps: str, parting: int | None) -> None:
    assert parting_of(different(steps), success=False) == parting


def test_there_is_no_parting_where_the_goal_was_reached() -> None:
    assert parting_of(different("x" * 20), success=True) is None


@pytest.mark.parametrize("fault", ["none", "corner", "swapped", "late"])
def test_a_planted_fault_is_named(environment: Any, fault: Fault) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 2):
        episode, planted = episode_of(environment, fault, seed)
        said = diagnose(lanes_of(episode), episode.outcome)
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
        found = diagnose(lanes_of(episode), episode.outcome)
        right = not planted.other or found.about in (planted.other.object, planted.other.target)
        said[found.kind if right else f"{found.kind}, about the wrong thing"] += 1
    print(fault, dict(said))
    assert sum(said[kind] for kind in NAMED[fault]) >= 45
    wrong = set(said) - {"", *NAMED[fault]}
    assert not wrong, "where it does not know, it says nothing"
