import pytest

from vlm4vla.language.normal import normalise, split_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pick Up The Red Cube.", "pick up the red cube"),
        ("  pick\u00a0up \t the\u2003red cube ?!", "pick up the red cube"),
        ("ｌｉｆｔ ｉｔ", "lift it"),
        ("don\u2019t", "don't"),
        ("lift it…", "lift it"),
        ("a. b.", "a. b"),
        ("İ", "i\u0307"),
        ("...", ""),
        ("", ""),
    ],
)
def test_one_sentence_however_it_is_typed(text, expected):
    assert normalise(text) == expected
    assert normalise(expected) == expected


def test_every_character_is_accounted_for():
    expected = "pick up the red cube , then < b >2 x . put it 🙂"
    assert " ".join(split_words("Pick-up the red cube, then <b>2x. Put it 🙂")) == expected
