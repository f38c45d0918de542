from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.errors import UserError
from vlm4vla.live.request import choose, take_request
from vlm4vla.suites.tabletop.scene import sample_scene

CATALOGUE = FakeCatalogue()


def test_a_choice_is_the_scene_of_its_task_and_number() -> None:
    assert choose("push", 7) == ("push", sample_scene("zones", 7))
    assert choose("pick", 99_999.0).scene == sample_scene("objects", 99_999)
    assert choose("pick", 199_999).scene.seed == 199_999


@pytest.mark.parametrize(
    "number",
    [-1, 200_000, 1.5, float("nan"), float("inf"), 10**30, None, "7", True, [], {}],
)
def test_a_number_that_names_no_scene_for_visitors_is_refused(number: object) -> None:
    with pytest.raises(UserError, match="0 to 199,999"):
        choose("pick", number)


@pytest.mark.parametrize("task", ["stock", "", None, "../pick", ["pick"]])
def test_an_unknown_task_is_refused(task: object) -> None:
    with pytest.raises(UserError, match="no such task"):
        choose(task, 0)


def condition(max_steps: Any, replan_every: Any) -> Condition:
    sentence = f"lift the {sample_scene('objects', 0).objects[0].name}"
    asked = take_request(CATALOGUE, "pick", 0, sentence, "", max_steps, replan_every)
    assert asked.spec.condition == asked.condition
    assert asked.spec.instruction == sentence
    assert asked.spec.goal == {"task": "pick", "object": sentence[9:], "target": None}
    return asked.condition


@pytest.mark.parametrize(
    ("given", "kept", "said"),
    [
        ((0, 0), Condition(GIVEN), ""),
        ((None, None), Condition(GIVEN), ""),
        ((40, 1), Condition(GIVEN, max_steps=40, replan_every=1), "at most 40 steps, 1 action"),
        ((40.0, 2), Condition(GIVEN, max_steps=40, replan_every=2), "at most 40 steps, 2 actions"),
        # What changes nothing must not make another id.
        ((60, 4), Condition(GIVEN), ""),
        ((100, 4), Condition(GIVEN), ""),
    ],
)
def test_changes_are_checked_and_those_that_change_nothing_are_none(
    given: Any, kept: Condition, said: str
) -> None:
    assert condition(*given) == kept
    assert kept.label == (f"{said} an inference" if said else "")


@pytest.mark.parametrize(
    "given",
    [
        *[(steps, 0) for steps in (4, 101, -1, 7.5, float("nan"), float("inf"), True, "9", [9])],
        *[(0, actions) for actions in (5, -1, "2", 1e300)],
    ],
)
def test_nonsense_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="whole number from"):
        condition(*given)


def changed(words: object, kind: Any = "policy") -> Any:
    sentence = f"lift the {sample_scene('objects', 0).objects[0].name}"
    return take_request(FakeCatalogue(kind), "pick", 0, sentence, changes=words)


def test_what_is_changed_stands_in_the_condition_and_has_a_layer_that_does_it() -> None:
    asked = changed("sentence-empty picture-blank level=0")
    names = [one.name for one in asked.spec.condition.perturbations]
    assert names == ["picture-blank", "sentence-empty"]
    assert set(names) <= set(asked.new_agent().perturbations)
    assert changed("").spec.condition == Condition(GIVEN)
    assert not hasattr(changed("").new_agent(), "perturbations")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("picture-blank", "expert"),
        ("skip-vision-layer", "policy"),
        ("picture-blank first_step=3", "policy"),
        ("zarf", "policy"),
        (["picture-blank"], "policy"),
    ],
)
def test_what_cannot_be_changed_live_is_refused(words: object, kind: str) -> None:
    with pytest.raises(UserError):
        changed(words, kind)


def test_the_expert_acts_in_another_light() -> None:
    assert changed("light factor=2", "expert").condition.label == "light (factor 2.0)"
