import numpy as np
import pytest

from tests.language.scenes import SCENES, thing
from vlm4vla.language.meanings import Noun, Reference
from vlm4vla.language.things import (
    VIEWS,
    Absent,
    Ambiguous,
    Resolved,
    View,
    resolve,
    resolve_target,
)
from vlm4vla.suites.tabletop.projection import POLICY_LENS, VIEW_LENS

SCENE = SCENES["o"]


def name(reference, things=SCENE):
    found = resolve(reference, things)
    assert isinstance(found, Resolved), found
    return found.thing.name


def test_a_camera_straight_ahead_sees_metres():
    # Two metres off and level with the things: right is +y, and nothing is away or near.
    view = View((2.0, 0.0, 0.022), (0.0, 0.0, 0.022))
    right, up, depth = view.axes
    assert np.allclose(right, (0, 1, 0)) and np.allclose(up, (0, 0, 1))
    assert np.allclose(depth, (-1, 0, 0))


def test_a_camera_overhead_sees_both_axes_in_metres():
    # 45 degrees down from +x: right is +y, away is -x, foreshortening undone to first order.
    view = View((1.022, 0.0, 1.022), (0.0, 0.0, 0.022))
    right, away = view.place(thing("red cube", -0.01, 0.1))
    distance = np.hypot(1.022, 1.0)
    assert right == pytest.approx(0.1 * distance / (distance + 0.01 * np.cos(np.pi / 4)), abs=0.003)
    assert away == pytest.approx(0.01, abs=0.0005)


def test_the_views_are_the_suites_cameras():
    for view, lens in zip(VIEWS, (POLICY_LENS, VIEW_LENS), strict=True):
        assert view.eye == pytest.approx(lens.eye, abs=1e-4)
        assert view.target == lens.target


def test_left_is_the_robots_right_and_behind_is_towards_the_robot():
    for view in VIEWS:
        assert view.place(thing("red cube", -0.05, -0.1))[0] < 0
        assert view.place(thing("red cube", -0.05, 0.1))[0] > 0
        near, far = thing("red cube", 0.05, 0.0), thing("red cube", -0.15, 0.0)
        assert view.place(far)[1] > view.place(near)[1]


def test_looks_alone():
    assert name(Reference(Noun("red"))) == "red cube"
    assert name(Reference(Noun(None, "ball"))) == "blue ball"
    assert resolve(Reference(Noun("purple", "cube")), SCENE) == Absent("the purple cube")
    found = resolve(Reference(Noun(None, "cube")), SCENE)
    assert isinstance(found, Ambiguous)
    assert [t.name for t in found.candidates] == ["red cube", "blue cube"]


@pytest.mark.parametrize(
    ("relation", "noun", "anchors", "expected"),
    [
        ("leftmost", Noun(None, "cube"), (), "red cube"),
        ("rightmost", Noun(None, "cube"), (), "blue cube"),
        # 0.145 to the ball, 0.141 to the red cube: less than the margin apart.
        ("nearest to", Noun("blue"), (Noun("green"),), None),
        ("nearest to", Noun(None, "cube"), (Noun(None, "ball"),), "red cube"),
        ("farthest from", Noun("blue"), (Noun("red"),), "blue cube"),
        ("between", Noun(), (Noun("red"), Noun("blue", "cube")), "green cylinder"),
        ("behind", Noun("blue"), (Noun("green"),), "blue ball"),
        ("other than", Noun(None, "cube"), (Noun("blue"),), "red cube"),
        ("other than", Noun("blue"), (Noun(None, "ball"),), "blue cube"),
        ("other than", Noun(), (Noun("blue"),), None),
    ],
)
def test_relations(relation, noun, anchors, expected):
    reference = Reference(noun, relation, anchors)
    if expected:
        assert name(reference) == expected
    else:
        assert isinstance(resolve(reference, SCENE), Ambiguous)


def test_an_anchor_must_be_one_thing():
    found = resolve(Reference(Noun("red"), "nearest to", (Noun("blue"),)), SCENE)
    assert isinstance(found, Ambiguous) and found.what == "the blue object"
    found = resolve(Reference(Noun("red"), "behind", (Noun(None, "bowl"),)), SCENE)
    assert found == Absent("the bowl")


def test_what_only_one_picture_shows_is_left_open():
    # Along a diagonal the two cameras, 29 degrees apart, do not agree on who is to the left.
    two = (thing("red cube", 0.06, 0.01), thing("blue cube", -0.06, -0.01))
    lefts = [min(two, key=lambda t, view=view: view.place(t)[0]).name for view in VIEWS]
    assert lefts == ["blue cube", "red cube"]
    found = resolve(Reference(Noun(None, "cube"), "leftmost"), two)
    assert isinstance(found, Ambiguous) and len(found.candidates) == 2


def test_a_narrow_lead_is_no_certainty():
    def cubes(gap):
        return (thing("red cube", -0.05, 0.0), thing("blue cube", -0.05, gap))

    reference = Reference(Noun(None, "cube"), "leftmost")
    assert isinstance(resolve(reference, cubes(0.01)), Ambiguous)
    assert name(reference, cubes(0.03)) == "red cube"


def test_beside_is_within_45_degrees():
    anchor = thing("green plate", -0.05, 0.05)
    left = Reference(Noun("red"), "left of", (Noun("green"),))
    # People's picture is turned by 29 degrees: what is left of the plate in both lies between.
    assert name(left, (anchor, thing("red cube", -0.03, -0.05))) == "red cube"
    slanting = resolve(left, (anchor, thing("red cube", -0.17, -0.01)))
    assert isinstance(slanting, Ambiguous)
    assert isinstance(resolve(left, (anchor, thing("red cube", -0.05, 0.14))), Absent)


def test_the_middle_of_the_picture_has_no_side():
    left = Reference(Noun("red"), "on the left")
    assert name(left, (thing("red cube", -0.1, -0.1),)) == "red cube"
    assert isinstance(resolve(left, (thing("red cube", -0.1, 0.01),)), Ambiguous)
    assert resolve(left, (thing("red cube", -0.1, 0.14),)) == Absent("the red object on the left")


def test_a_single_thing_is_outermost_unless_it_is_on_the_other_side():
    leftmost = Reference(Noun("red"), "leftmost")
    assert name(leftmost, (thing("red cube", -0.1, 0.0),)) == "red cube"
    assert isinstance(resolve(leftmost, (thing("red cube", -0.1, 0.14),)), Ambiguous)


def test_between_is_near_the_line_and_off_its_ends():
    ends = (thing("green plate", -0.1, -0.1), thing("purple bowl", -0.1, 0.1))
    between = Reference(Noun("red"), "between", (Noun("green"), Noun("purple")))
    assert name(between, (*ends, thing("red cube", -0.07, 0.0))) == "red cube"
    assert isinstance(resolve(between, (*ends, thing("red cube", -0.03, 0.0))), Ambiguous)
    assert isinstance(resolve(between, (*ends, thing("red cube", 0.0, 0.0))), Absent)
    assert isinstance(resolve(between, (*ends, thing("red cube", -0.1, 0.12))), Absent)


def test_a_thing_does_not_go_onto_itself():
    red, blue = SCENE[:2]
    cube = Reference(Noun(None, "cube"))
    assert resolve_target(cube, SCENE, red) == Resolved(blue)
    leftmost = Reference(Noun(None, "cube"), "leftmost")
    assert resolve_target(leftmost, SCENE, red) == Resolved(red)
