import numpy as np
import pytest

from vlm4vla.model.vlm import make_tiny
from vlm4vla.suites.tabletop.instructions import words
from vlm4vla.train.auxiliary.patch_words import COLOUR_WORDS, KIND_WORDS, word_tokens
from vlm4vla.train.synthetic.drawings import Item, Picture
from vlm4vla.train.synthetic.questions import (
    KINDS,
    ask,
    ask_several,
    cell_of,
    corpus,
    every_pointing,
    location,
)

ITEMS = (
    Item("red cube", 10.0, 100.0),
    Item("orange ball", 60.0, 20.0),
    Item("blue zone", 120.0, 60.0),
)
PICTURE = Picture(np.zeros((128, 128, 3), np.uint8), np.full((128, 128), -1, np.int8), ITEMS)


def asked(kind, count=60):
    rng = np.random.default_rng(0)
    found = (ask(PICTURE, kind, rng) for _ in range(count))
    return {question.text: question.answer for question in found if question}


def test_cells_are_four_pixels_wide():
    assert cell_of(ITEMS[0]) == (2, 25)
    assert location(ITEMS[1]) == "<across_15><down_05>"
    assert cell_of(Item("red cube", 128.0, -3.0)) == (31, 0)


def test_pointing_covers_every_thing():
    assert [(q.text, q.answer) for q in every_pointing(PICTURE)] == [
        ("Point at the red cube.", "<across_02><down_25>"),
        ("Point at the orange ball.", "<across_15><down_05>"),
        ("Point at the blue zone.", "<across_30><down_15>"),
    ]


def test_colour_and_shape_are_asked_only_where_they_are_clear():
    assert asked("colour") == {
        "What colour is the cube?": " red",
        "What colour is the ball?": " orange",
        "What colour is the zone?": " blue",
    }
    twins = Picture(PICTURE.image, PICTURE.segmentation, (ITEMS[0], Item("green cube", 90, 90)))
    assert ask(twins, "colour", np.random.default_rng(0)) is None


def test_counting():
    answers = asked("count", 200)
    assert answers["How many cubes are there?"] == " one"
    assert answers["How many bowls are there?"] == " no"
    assert answers["How many blue things are there?"] == " one"


def test_relations_follow_the_picture():
    answers = asked("relation", 200)
    assert answers["Is the red cube left of the orange ball?"] == " yes"
    assert answers["Is the red cube right of the orange ball?"] == " no"
    assert answers["Is the red cube nearer than the blue zone?"] == " yes"
    assert answers["Is the orange ball nearer than the blue zone?"] == " no"
    assert answers["Is the orange ball farther than the blue zone?"] == " yes"


def test_existence_is_balanced_and_true():
    names = {item.name for item in ITEMS}
    rng = np.random.default_rng(0)
    answers = []
    for _ in range(300):
        question = ask(PICTURE, "existence", rng)
        name = question.text.removeprefix("Is there ").split(" ", 1)[1].rstrip("?")
        assert (question.answer == " yes") == (name in names)
        answers.append(question.answer == " yes")
    assert 0.4 < np.mean(answers) < 0.6


def test_captions_go_from_left_to_right_with_articles():
    assert asked("caption") == {
        "What is there, from left to right?": " a red cube, an orange ball, a blue zone"
    }


def test_instructions_point_at_their_first_and_second_thing():
    for text, answer in asked("first", 200).items():
        assert answer == (location(ITEMS[0]) if "red cube" in text else location(ITEMS[1]))
    second = asked("second", 200)
    assert second
    assert set(second.values()) == {location(ITEMS[2])}


def test_held_out_paraphrases_differ_from_those_in_training():
    rng = np.random.default_rng(0)
    held = {ask(PICTURE, "first", rng, held_out=True).text for _ in range(100)}
    assert not held & set(asked("first", 400))


def test_kinds_come_in_their_proportions():
    rng = np.random.default_rng(0)
    for lengthy in (False, True):
        drawn = [ask_several(PICTURE, 1, rng, lengthy=lengthy)[0].kind for _ in range(2000)]
        among = {name: kind.share for name, kind in KINDS.items() if kind.lengthy == lengthy}
        assert set(drawn) == set(among)
        if lengthy:
            # Both can always be asked here: 0.18 to 0.03.
            assert 4.5 < drawn.count("first") / drawn.count("caption") < 8


@pytest.fixture(scope="module")
def tokenizer():
    return make_tiny(corpus()).tokenizer


def test_every_name_and_every_instruction_word_is_one_token(tokenizer):
    assert len(set(word_tokens(tokenizer, COLOUR_WORDS + KIND_WORDS[:-1]))) == 15
    for word in words() | words(held_out=True):
        assert len(word_tokens(tokenizer, [word])) == 1


def test_the_corpus_holds_no_location_tokens():
    assert not any(token in line for line in corpus() for token in ("<across", "<down"))


def test_half_of_the_draws_point_at_different_things():
    rng = np.random.default_rng(0)
    draws = [ask_several(PICTURE, 3, rng, lengthy=False) for _ in range(400)]
    assert all(len(draw) == 3 for draw in draws)
    apart = [
        sorted(q.text for q in draw) == sorted(q.text for q in every_pointing(PICTURE))
        for draw in draws
    ]
    assert 0.42 < np.mean(apart) < 0.6
    assert ask_several(PICTURE, 0, rng, lengthy=True) == []
