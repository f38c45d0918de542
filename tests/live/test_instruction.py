from random import Random

import pytest

from vlm4vla.errors import UserError
from vlm4vla.live.instruction import accept, goal_in, sentence_for, suggestions, understand
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import (
    LAYOUT_OF_TASK,
    TASKS,
    FixtureSpec,
    ObjectSpec,
    Scene,
    sample_scene,
)

SCENE = Scene(
    "containers",
    0,
    (
        ObjectSpec("yellow ball", 0.04, 0.0, 0.0, 0.0),
        ObjectSpec("blue cylinder", 0.043, 0.0, 0.1, 0.0),
    ),
    (FixtureSpec("red bowl", "bowl", -0.1, 0.0), FixtureSpec("green plate", "plate", -0.1, 0.12)),
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no instruction"),
        (" \t ", "no instruction"),
        ("a" * 201, "201 characters"),
        ("lift\x00it", "U+0000"),
        ("lift\nit", "U+000A"),
        ("lift \u202eti", "U+202E"),
        ("lift \ud800", "U+D800"),
        (None, "not text"),
        (["lift it"], "not text"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_its_reason(text: object, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("+", r"\+")):
        accept(text)


def test_spaces_around_are_dropped_and_200_characters_are_allowed() -> None:
    assert accept("  lift it \n") == "lift it"
    assert accept("ä" * 200) == "ä" * 200


def test_a_sentence_is_read_in_its_scene() -> None:
    reading = understand("Put the yellow ball into the red bowl!", SCENE)
    assert (reading.kind, goal_in(reading)) == ("known", Goal("place", "yellow ball", "red bowl"))
    assert reading.text == "Put the yellow ball into the red bowl!"
    reading = understand("could you lift the golden sphere", SCENE)
    assert (reading.kind, goal_in(reading)) == ("understood", Goal("pick", "yellow ball"))
    assert goal_in(understand("zarf the blick", SCENE)) is None


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["yellow ball"], "pick up the yellow ball"),
        (["yellow ball", "red bowl"], "put the yellow ball in the red bowl"),
        (["blue cylinder", "green plate"], "put the blue cylinder on the green plate"),
        (["red bowl"], ""),
        (["yellow ball", "blue cylinder"], ""),
        ([], ""),
    ],
)
def test_what_is_pointed_at_becomes_a_sentence(names: list[str], sentence: str) -> None:
    assert sentence_for(SCENE, names) == sentence
    if sentence:
        assert understand(sentence, SCENE).kind == "known"


def test_whatever_is_typed_is_read_or_refused() -> None:
    random = Random(0)
    scraps = [
        "lift",
        "the",
        "red ball",
        "\x00",
        "\u202e",
        "🤖",
        "ß" * 90,
        "\n",
        "'; --",
        "../",
        " ",
    ]
    for _ in range(300):
        text = random.choice(["", " "]).join(random.choices(scraps, k=random.randrange(8)))
        try:
            reading = understand(text, SCENE)
        except UserError as error:
            assert error.fix
        else:
            # There is no red ball here, and "lift the" names nothing.
            assert reading.kind == "not judged"
            assert reading.sentence


def test_every_goal_of_the_task_is_suggested_in_words_that_are_understood() -> None:
    for task in TASKS:
        for seed in range(30):
            scene = sample_scene(LAYOUT_OF_TASK[task], seed)
            goals = [goal_in(understand(text, scene)) for text in suggestions(scene, task)]
            assert goals == list(scene.goals(task))
