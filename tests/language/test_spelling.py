import json
from importlib.resources import files

import pytest

from vlm4vla.language.kinds import read_words
from vlm4vla.language.spelling import mend


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("yelow", "yellow"),
        ("yelllow", "yellow"),
        ("cyllinder", "cylinder"),
        ("cyliner", "cylinder"),
        ("oragne", "orange"),
        ("purpel", "purple"),
        ("pikc", "pick"),
        ("psuh", "push"),
        ("ubild", "build"),
        ("teh", "the"),
        ("rde", "red"),
        ("rightmots", "rightmost"),
    ],
)
def test_a_slip_is_mended(typed, read):
    assert mend(["lift", typed]) == (["lift", read], ((typed, read),))


OTHERS = (
    "read bell boll bowel bred plane slate clock cub rouge",  # English
    "reddish cubes blocks lifted unstack",  # a word with something added
    "gren plae",  # two words are as near
    "zarf blick wug rd",  # none is near
)


@pytest.mark.parametrize("word", " ".join(OTHERS).split())
def test_another_word_is_never_mended(word):
    assert mend(["lift", word]) is None


def test_known_words_stay():
    assert mend(["bread", "red", "<"]) == (["bread", "red", "<"], ())


def test_a_sentence_of_slips_is_not_mended():
    assert mend(["lfit", "teh", "yelow"]) is None


def test_the_list_of_english_words_was_made_for_this_language():
    listed = json.loads(files("vlm4vla.language").joinpath("real_words.json").read_text("utf-8"))
    assert listed["for"] == sorted(read_words()), "run benchmarks/real_words.py"
    assert not set(listed["words"]) & read_words()
