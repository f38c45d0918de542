"""Conditions and events on states written down by hand."""

from dataclasses import replace

import numpy as np

from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.tasks import EventTracker, Facts, succeeded
from vlm4vla.suites.tabletop.types import State

NAMES = ("red cube", "blue ball", "green cylinder", "yellow zone", "purple bowl")
SIZES = (0.04, 0.04, 0.048, 0.08, 0.116)
POSITIONS = (
    (0.0, 0.0, 0.02),
    (0.0, 0.1, 0.02),
    (0.05, -0.1, 0.024),
    (-0.05, 0.135, 0.0),
    (0.1, 0.1, 0.0),
)


def facts(positions=None, *, touched=(), held=None, speeds=(0, 0, 0), upright=(1, 1, 1)) -> Facts:
    """The hand far away and everything where it started, but for what is given."""
    now = np.array(POSITIONS, dtype=np.float32)
    for name, place in (positions or {}).items():
        now[NAMES.index(name)] = place
    state = State(
        tcp=np.array([0.0, 0.0, 0.3], np.float32),
        velocity=np.zeros(3, np.float32),
        opening=0.08,
        names=NAMES,
        positions=now,
        sizes=np.array(SIZES, np.float32),
        movable=3,
    )
    return Facts(
        state,
        frozenset(touched),
        held,
        np.array(POSITIONS[:3], np.float32),
        np.array(speeds, np.float32),
        np.array(upright, np.float32),
    )


def test_reach_needs_contact_with_the_named_object():
    goal = Goal("reach", "red cube")
    assert not succeeded(facts(), goal)
    assert not succeeded(facts(touched=["blue ball"]), goal)
    assert succeeded(facts(touched=["red cube"]), goal)


def test_pick_needs_five_centimetres_and_both_fingers():
    goal = Goal("pick", "red cube")
    high = {"red cube": (0, 0, 0.071)}
    assert succeeded(facts(high, held="red cube", touched=["red cube"]), goal)
    assert not succeeded(facts(high, touched=["red cube"]), goal)
    assert not succeeded(facts({"red cube": (0, 0, 0.069)}, held="red cube"), goal)


def test_push_counts_only_on_the_table_inside_the_strip():
    goal = Goal("push", "red cube", "yellow zone")
    # The strip is 33 cm by 8 cm around (-0.05, 0.135).
    assert succeeded(facts({"red cube": (0.11, 0.174, 0.02)}), goal)
    assert not succeeded(facts({"red cube": (0.12, 0.135, 0.02)}), goal)
    assert not succeeded(facts({"red cube": (0.0, 0.176, 0.02)}), goal)
    assert not succeeded(facts({"red cube": (0.0, 0.135, 0.06)}), goal)
    assert not succeeded(facts({"red cube": (0.0, 0.135, 0.02)}, held="red cube"), goal)


def test_place_needs_the_object_let_go_and_still_in_the_bowl():
    goal = Goal("place", "red cube", "purple bowl")
    inside = {"red cube": (0.12, 0.1, 0.024)}
    assert succeeded(facts(inside), goal)
    assert not succeeded(facts(inside, touched=["red cube"]), goal)
    assert not succeeded(facts(inside, speeds=(0.06, 0, 0)), goal)
    assert not succeeded(facts({"red cube": (0.16, 0.1, 0.024)}), goal)
    assert not succeeded(facts({"red cube": (0.1, 0.1, 0.037)}), goal)


def test_stack_needs_the_right_height_and_overlap():
    goal = Goal("stack", "red cube", "green cylinder")
    # Half of 4.8 cm, half of 4 cm, above the cylinder's centre at 2.4 cm.
    height = 0.024 + 0.024 + 0.020
    assert succeeded(facts({"red cube": (0.05, -0.1, height)}), goal)
    assert succeeded(facts({"red cube": (0.05, -0.077, height)}), goal)
    assert not succeeded(facts({"red cube": (0.05, -0.075, height)}), goal)
    assert not succeeded(facts({"red cube": (0.05, -0.1, height + 0.007)}), goal)
    assert not succeeded(facts({"red cube": (0.05, -0.1, height)}, touched=["red cube"]), goal)


def test_events_are_told_once_and_in_order():
    tracker = EventTracker(Goal("pick", "red cube"))
    assert tracker.update(facts(), 0) == ()
    assert tracker.update(facts(touched=["red cube"]), 1) == ("reached",)
    holding = {"touched": ["red cube"], "held": "red cube"}
    assert tracker.update(facts(**holding), 2) == ("grasped",)
    assert tracker.update(facts(**holding), 3) == ()
    assert tracker.update(facts({"red cube": (0, 0, 0.08)}, **holding), 4) == ("success",)


def test_a_drop_is_told_each_time_but_not_over_the_target():
    tracker = EventTracker(Goal("place", "red cube", "purple bowl"))
    carried = {"touched": ["red cube"], "held": "red cube"}
    for step in (1, 3):
        tracker.update(facts({"red cube": (0, 0, 0.1)}, **carried), step)
        assert "dropped" in tracker.update(facts({"red cube": (0, 0, 0.09)}), step + 1)
    tracker.update(facts({"red cube": (0.1, 0.1, 0.06)}, **carried), 5)
    assert "dropped" not in tracker.update(facts({"red cube": (0.1, 0.1, 0.05)}), 6)


def test_wrong_object_by_grasp_or_by_two_centimetres():
    goal = Goal("pick", "red cube")
    assert "wrong_object" in EventTracker(goal).update(facts(held="blue ball"), 1)
    near = facts({"blue ball": (0.0, 0.119, 0.02)})
    far = facts({"blue ball": (0.0, 0.121, 0.02)})
    assert "wrong_object" not in EventTracker(goal).update(near, 1)
    assert "wrong_object" in EventTracker(goal).update(far, 1)
    assert "wrong_object" not in EventTracker(goal).update(facts({"red cube": (0.1, 0, 0.02)}), 1)


def test_the_base_of_a_stack_may_be_touched_but_not_moved_or_held():
    goal = Goal("stack", "red cube", "green cylinder")
    assert EventTracker(goal).update(facts(touched=["green cylinder"]), 1) == ()
    assert EventTracker(goal).update(facts(held="green cylinder"), 1) == ("wrong_object",)
    moved = facts({"green cylinder": (0.075, -0.1, 0.024)})
    assert EventTracker(goal).update(moved, 1) == ("knocked",)


def test_knocked_is_more_than_thirty_degrees():
    goal = Goal("reach", "red cube")
    leaning = facts(upright=(1, 1, float(np.cos(np.radians(29)))))
    lying = facts(upright=(1, 1, float(np.cos(np.radians(31)))))
    assert EventTracker(goal).update(leaning, 1) == ()
    assert EventTracker(goal).update(lying, 1) == ("knocked",)


def test_timeout_at_the_limit_unless_it_succeeded():
    goal = Goal("reach", "red cube")
    assert EventTracker(goal).update(facts(), 59) == ()
    assert EventTracker(goal).update(facts(), 60) == ("timeout",)
    assert "timeout" not in EventTracker(goal).update(facts(touched=["red cube"]), 60)


def test_facts_name_what_they_hold():
    now = facts(speeds=(0.0, 0.2, 0.0))
    assert now.index("green cylinder") == 2
    assert now.settled("red cube") and not now.settled("blue ball")
    assert replace(now, touched=frozenset({"red cube"})).settled("red cube") is False
