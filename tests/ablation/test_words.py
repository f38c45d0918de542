"""Perturbations as words, there and back."""

import pytest

from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.ablation.words import changes_of, words_of
from vlm4vla.core.condition import Perturbation
from vlm4vla.errors import UserError


def test_words_name_perturbations_in_the_registrys_order() -> None:
    blur = ["picture-blur", "sigma=3", "last_step=8"]
    found = changes_of(["sentence-empty", "camera", "degrees=2", *blur])
    assert found == (
        Perturbation("picture-blur", {"sigma": 3.0}, 0, 8),
        Perturbation("sentence-empty"),
        Perturbation("camera", {"degrees": 2.0}),
    )
    assert changes_of([]) == ()


def test_only_one_sentence_is_told_at_a_step() -> None:
    empty = ["sentence-empty", "last_step=3", "sentence-nonsense"]
    with pytest.raises(UserError, match="sentence-empty and sentence-nonsense would each tell"):
        changes_of(empty)
    assert len(changes_of([*empty, "first_step=4"])) == 2


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_what_is_usual_needs_but_its_name(name: str) -> None:
    assert words_of(perturbation(name)) == name


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("camera degrees=-2.5", perturbation("camera", {"degrees": -2.5})),
        ("skip-head layer=1", perturbation("skip-head", {"layer": 1, "head": 0})),
        (
            "picture-without what=robot first_step=4 last_step=9",
            perturbation("picture-without", {"what": "robot"}, 4, 9),
        ),
    ],
)
def test_words_lead_back_to_the_same(words: str, change: Perturbation) -> None:
    assert words_of(change) == words
    assert changes_of(words.split()) == (change,)


@pytest.mark.parametrize(
    "words",
    [
        "sigma=3 picture-blur",
        "picture-blur first_step=0.5",
        "zarf",
        "picture-blur picture-blur",
        "camera degrees=5 degrees=6",
        "camera degrees=5 degrees=5",
        "picture-blur last_step=3 first_step=1 last_step=4",
    ],
)
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(UserError):
        changes_of(words.split())


def test_what_is_wrong_with_a_step_or_a_number_is_said() -> None:
    with pytest.raises(UserError, match=r"camera is given degrees twice"):
        changes_of(["camera", "degrees=5", "degrees=6"])
    with pytest.raises(UserError, match=r"picture-blur cannot begin at step -1\. Steps start at 0"):
        changes_of(["picture-blur", "first_step=-1"])
