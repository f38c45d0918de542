import numpy as np
import pytest

from vlm4vla.language.kinds import all_words
from vlm4vla.language.known import TEMPLATES
from vlm4vla.language.vocabulary import words_for
from vlm4vla.suites.tabletop.instructions import Goal, paraphrases
from vlm4vla.train.auxiliary.patch_words import COLOUR_WORDS, KIND_WORDS, word_tokens
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.synthetic.drawings import Item, Picture
from vlm4vla.train.synthetic.questions import (
    KINDS,
    ask,
    ask_several,
    called,
    cell_of,
    corpus,
    every_pointing,
    location,
)

GOALS = (
    Goal("reach", "red cube"),
    Goal("reach", "orange ball"),
    Goal("pick", "red cube"),
    Goal("pick", "orange ball"),
    Goal("push", "red cube", "blue zone"),
    Goal("push", "orange ball", "blue zone"),
)
ITEMS = (
    Item("red cube", 10.0, 100.0),
    Item("orange ball", 60.0, 20.0),
    Item("blue zone", 120.0, 60.0),
)
PICTURE = Picture(np.zeros((128, 128, 3), np.uint8), np.full((128, 128), -1, np.int8), ITEMS)


def asked(kind, count=60):
    """Answers by question, in canonical words and the known sentences."""
    rng = np.random.default_rng(0)
    found = (ask(PICTURE, kind, rng, "paraphrases") for _ in range(count))
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
    assert ask(twins, "colour", np.random.default_rng(0), "paraphrases") is None


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
        question = ask(PICTURE, "existence", rng, "paraphrases")
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


def sentences_of(words, count=150):
    rng = np.random.default_rng(0)
    found = (ask(PICTURE, "first", rng, words) for _ in range(count))
    return {question.text.removeprefix("Where is the first thing in: ") for question in found}


def test_what_training_holds_is_never_held_out():
    trained = sentences_of("training", 300)
    for among in ("paraphrases", "held-out"):
        assert not trained & sentences_of(among)
    known = {t for goal in GOALS for t in paraphrases(goal)}
    share = np.mean([text.rstrip("?") in known for text in trained])
    # Half of the draws are broad, and far fewer of them come twice.
    assert 0.05 < share < 0.6


def test_broad_references_mean_the_thing_that_is_pointed_at():
    expected = {
        # The only thing of its colour or kind, the one farthest to a side, and so on.
        "Point at the cube.": location(ITEMS[0]),
        "Point at the blue object.": location(ITEMS[2]),
        "Point at the leftmost object.": location(ITEMS[0]),
        "Point at the rightmost object.": location(ITEMS[2]),
    }
    answers = asked("referred", 600)
    for text, answer in expected.items():
        assert answers[text] == answer


def test_things_are_called_by_words_of_training_only():
    rng = np.random.default_rng(0)
    said = {called("red cube", rng) for _ in range(400)}
    assert "red cube" in said
    assert len(said) > 4
    held = {word.text for word in (*words_for("red"), *words_for("cube")) if word.held_out}
    assert held and not any(word in name.split() for word in held for name in said)


def test_kinds_come_in_their_proportions():
    rng = np.random.default_rng(0)
    for lengthy in (False, True):
        drawn = [ask_several(PICTURE, 1, rng, lengthy=lengthy)[0].kind for _ in range(600)]
        among = {name: kind.share for name, kind in KINDS.items() if kind.lengthy == lengthy}
        assert set(drawn) == set(among)
        if lengthy:
            # Both can always be asked here: 0.18 to 0.03.
            assert 4 < drawn.count("first") / drawn.count("caption") < 9


@pytest.fixture(scope="module")
def tokenizer():
    return make_backbone().tokenizer


def test_every_name_and_every_instruction_word_is_one_token(tokenizer):
    assert len(set(word_tokens(tokenizer, COLOUR_WORDS + KIND_WORDS[:-1]))) == 15
    sentences = [text for among in TEMPLATES.values() for text in (*among.train, *among.held_out)]
    for word in {word for text in sentences for word in text.split() if "{" not in word}:
        assert len(word_tokens(tokenizer, [word])) == 1


def test_no_word_of_the_language_is_spelled_out(tokenizer):
    lengths = [len(tokenizer.encode(f" {w}", add_special_tokens=False).ids) for w in all_words()]
    assert np.mean([length == 1 for length in lengths]) > 0.97
    assert max(lengths) <= 2


def test_the_corpus_holds_no_location_tokens():
    assert not any(token in line for line in corpus() for token in ("<across", "<down"))


def test_half_of_the_draws_point_at_different_things():
    rng = np.random.default_rng(0)
    draws = [ask_several(PICTURE, 3, rng, lengthy=False) for _ in range(400)]
    assert all(len(draw) == 3 for draw in draws)
    apart = [
        sorted(q.answer for q in draw) == sorted(q.answer for q in every_pointing(PICTURE))
        for draw in draws
    ]
    assert 0.42 < np.mean(apart) < 0.6
    assert ask_several(PICTURE, 0, rng, lengthy=True) == []
