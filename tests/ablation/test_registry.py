import pytest

from vlm4vla.ablation.registry import PERTURBATIONS, ordered, parse, perturbation, place_of
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.episode import EpisodeSpec, request_id
from vlm4vla.errors import UserError


def hashed(*changes):
    spec = EpisodeSpec("tabletop", "pick", 3, "go", {}, Condition(perturbations=changes))
    return request_id(spec, ())


def test_the_same_perturbation_has_one_hash_however_it_is_written():
    assert perturbation("picture-blur", {"sigma": 2}) == perturbation("picture-blur")
    assert hashed(perturbation("picture-blur", {"sigma": 2})) == hashed(
        perturbation("picture-blur", {"sigma": 2.0})
    )
    assert hashed(perturbation("picture-blur")) != hashed(
        perturbation("picture-blur", {"sigma": 3})
    )
    late = perturbation("picture-blank", first_step=5)
    assert hashed(late) != hashed(perturbation("picture-blank"))
    blank, empty = perturbation("picture-blank"), perturbation("sentence-empty")
    assert hashed(*ordered([empty, blank])) == hashed(*ordered([blank, empty]))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (("size", {"factor": 2}), "a number from 0.7 to 1.4"),
        (("picture-blnk",), "Did you mean 'picture-blank'"),
        (("picture-blank", {"sigma": 1}), "picture-blank has no sigma"),
        (("picture-blank", {"level": 300}), "a whole number from 0 to 255"),
        (("picture-blank", {"level": 1.5}), "a whole number"),
        (("picture-blank", {"level": float("nan")}), "a whole number"),
        (("picture-blank", {"level": float("inf")}), "a whole number"),
        (("picture-blur", {"sigma": float("inf")}), "a number from 0.0 to 64.0"),
        (("picture-blur", {"sigma": 10**400}), "a number from 0.0 to 64.0"),
        (("picture-blur", {"sigma": "much"}), "a number from 0.0 to 64.0"),
        (("picture-without", {"what": "table"}), "Choose object, target, gripper, robot"),
        (("picture-blank", {}, 6, 5), "from step 6 to step 5"),
        (("camera", {}, 3), "holds for a whole episode"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(asked, why):
    with pytest.raises(UserError) as told:
        perturbation(*asked)
    assert why in str(told.value)


def test_numbers_are_read_from_words():
    assert parse(["sigma=2.5", "side=16", "what=robot"]) == {
        "sigma": 2.5,
        "side": 16,
        "what": "robot",
    }
    with pytest.raises(UserError, match="NAME=VALUE"):
        parse(["sigma"])


def test_every_perturbation_has_a_place_and_usual_numbers():
    for name in PERTURBATIONS:
        made = perturbation(name)
        assert set(made.values) == set(PERTURBATIONS.get(name).values)
        assert place_of(made) in ("picture", "sentence", "inside", "simulator")
    assert place_of(Perturbation("start")) is None
    with pytest.raises(UserError, match="picture-blank is asked for twice"):
        ordered([perturbation("picture-blank"), perturbation("picture-blank", {"level": 0})])
