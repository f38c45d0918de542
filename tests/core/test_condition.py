import json

import pytest

from vlm4vla.core.condition import GIVEN, Condition, Perturbation
from vlm4vla.errors import UserError

NOISE = Perturbation("noise", {"sigma": 0.1, "channel": "red"}, first_step=3, last_step=9)
EVERYTHING = Condition(
    words="trained",
    goal="alternate",
    max_steps=30,
    replan_every=2,
    perturbations=(NOISE, Perturbation("blur", first_step=5)),
)


def test_what_is_as_usual_leaves_no_trace():
    assert Condition().to_json() == {"words": "known"}
    assert Condition(words=GIVEN).to_json() == {"words": "given"}
    assert Perturbation("blur").to_json() == {"name": "blur"}


def test_everything_in_json():
    plain = {
        "words": "trained",
        "goal": "alternate",
        "max_steps": 30,
        "replan_every": 2,
        "perturbations": [
            {
                "name": "noise",
                "values": {"channel": "red", "sigma": 0.1},
                "first_step": 3,
                "last_step": 9,
            },
            {"name": "blur", "first_step": 5},
        ],
    }
    assert EVERYTHING.to_json() == plain
    # In this order, so that a text made of it is the same whatever order it was given in.
    assert list(EVERYTHING.to_json()["perturbations"][0]["values"]) == ["channel", "sigma"]
    assert Condition.from_json(json.loads(json.dumps(plain))) == EVERYTHING
    assert Condition.from_json({"words": "known"}) == Condition()


def test_a_condition_of_a_newer_version_is_refused():
    with pytest.raises(UserError, match=r"condition with gravity, wind is not known.*update"):
        Condition.from_json({"words": "known", "wind": 3, "gravity": 1})


def test_a_perturbation_of_another_form_is_refused():
    odd = {"name": "blur", "until": 3, "from": 1}
    with pytest.raises(UserError, match=r"with from, until is not.*name, values, first_step, last"):
        Condition.from_json({"words": "known", "perturbations": [odd]})
    with pytest.raises(UserError, match="has no name"):
        Condition.from_json({"words": "known", "perturbations": [{"first_step": 2}]})


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"words": ["known"]}, "words"),
        ({"words": None}, "words"),
        ({"words": "known", "goal": 1}, "goal"),
        ({"max_steps": float("inf")}, "max_steps"),
        ({"max_steps": -1}, "max_steps"),
        ({"max_steps": True}, "max_steps"),
        ({"replan_every": 2.0}, "replan_every"),
        ({"perturbations": {"name": "blur"}}, "perturbations"),
        ({"perturbations": "blur"}, "perturbations"),
        ({"perturbations": ["camera"]}, "'camera'"),
        ({"perturbations": [{"name": 5}]}, "name"),
        ({"perturbations": [{"name": "blur", "values": [1]}]}, "values"),
        ({"perturbations": [{"name": "blur", "values": {"a": [1]}}]}, "values.a"),
        ({"perturbations": [{"name": "blur", "values": {"a": None}}]}, "values.a"),
        ({"perturbations": [{"name": "blur", "values": {"a": float("nan")}}]}, "values.a"),
        ({"perturbations": [{"name": "blur", "first_step": "a"}]}, "first_step"),
        ({"perturbations": [{"name": "blur", "last_step": -2}]}, "last_step"),
        ([], "A condition is"),
        ("words", "A condition is"),
    ],
)
def test_a_field_of_another_type_is_named(told, field):
    with pytest.raises(UserError, match=field):
        Condition.from_json(told)


def test_no_last_step_may_be_written_down():
    told = {"perturbations": [{"name": "blur", "last_step": None}]}
    assert Condition.from_json(told).perturbations == (Perturbation("blur"),)


def test_numbers_that_change_nothing_are_left_out():
    asked = Condition(words=GIVEN, max_steps=60, replan_every=4)
    assert asked.without_usual(60, 4) == Condition(words=GIVEN)
    assert asked.without_usual(61, 3) == asked
    assert asked.without_usual(59, 4) == Condition(words=GIVEN)


@pytest.mark.parametrize(
    ("perturbation", "steps"),
    [
        (Perturbation("blur"), [0, 1, 2, 3, 4, 5]),
        (Perturbation("blur", first_step=2), [2, 3, 4, 5]),
        (Perturbation("blur", last_step=1), [0, 1]),
        (Perturbation("blur", first_step=2, last_step=4), [2, 3, 4]),
        (Perturbation("blur", first_step=3, last_step=3), [3]),
        (Perturbation("blur", last_step=0), [0]),
    ],
)
def test_a_perturbation_holds_from_a_step_to_a_step(perturbation, steps):
    assert [step for step in range(6) if perturbation.holds(step)] == steps


def test_labels():
    assert Condition().label == "" == Condition(words="trained").label
    assert EVERYTHING.label == (
        "alternate goal, at most 30 steps, 2 actions an inference, "
        "noise (channel red, sigma 0.1) at steps 3 to 9, blur from step 5 on"
    )
    assert Condition(replan_every=1).label == "1 action an inference"
    assert Perturbation("blur", last_step=0).label == "blur at steps 0 to 0"
