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


def test_a_known_sentence_is_read_as_its_goal() -> None:
    reading = understand("Put the yellow ball into the red bowl!", SCENE)
    assert reading.kind == "known"
    assert goal_in(reading) == Goal("place", "yellow ball", "red bowl")


def test_a_sentence_is_read_where_things_stand() -> None:
    # Both cameras look from the side of +x: what lies at the larger y is to their right.
    reading = understand("put the ball on the plate on the right", SCENE)
    assert goal_in(reading) == Goal("place", "yellow ball", "green plate")
    assert goal_in(understand("touch the plate", SCENE)) is None


def test_one_or_two_things_that_were_pointed_at_make_a_sentence() -> None:
    assert sentence_for(SCENE, ["yellow ball"]) == "pick up the yellow ball"
    into = "put the yellow ball in the red bowl"
    assert sentence_for(SCENE, ["yellow ball", "red bowl"]) == into
    assert sentence_for(SCENE, ["red bowl"]) == sentence_for(SCENE, []) == ""


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
            assert reading.judged or reading.suggestions


def test_every_goal_of_the_task_is_suggested_in_words_that_are_understood() -> None:
    for task in TASKS:
        for seed in range(30):
            scene = sample_scene(LAYOUT_OF_TASK[task], seed)
            goals = [goal_in(understand(text, scene)) for text in suggestions(scene, task)]
            assert goals == list(scene.goals(task))
