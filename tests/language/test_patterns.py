import pytest

from vlm4vla.language.patterns import (
    Literal,
    Pattern,
    Slot,
    anything,
    everything,
    training,
)


def readings(text, words, macros=()):
    def number(slot, start):
        if start < len(words) and words[start].isdigit():
            yield start + 1, int(words[start])

    return list(Pattern(text, macros).read(words, 0, number))


def test_a_pattern_reads_alternatives_options_and_slots():
    assert readings("(go | please go) to {place} [now]", ["please", "go", "to", "7", "now"]) == [
        (4, (("place", 7),)),
        (5, (("place", 7),)),
    ]
    assert readings("go to {place}", ["go", "to", "town"]) == []


def test_macros_stand_for_patterns():
    assert readings("{verb} {x}", ["lift", "3"], (("verb", "(raise | lift)"),)) == [
        (2, (("x", 3),))
    ]


def test_every_reading_is_given():
    assert len(readings("[a] [a] a", ["a", "a", "a"])) == 4


def written(text, choices, may=anything):
    choices = iter(choices)
    return Pattern(text).write(lambda count: next(choices) % count, lambda slot: [slot], may)


def test_a_pattern_writes_what_is_drawn():
    assert written("(a | b) {x} [c]", [1, 1]) == ["b", "x", "c"]
    assert written("(a | b) {x} [c]", [0, 0]) == ["a", "x"]


def test_held_out_and_read_only_words_are_kept_back():
    text = "(?a | ~b | c)"
    assert written(text, [0]) == ["b"]
    assert written(text, [0], training) == ["c"]
    assert not Pattern("~b").can_be_written(training)
    assert [leaf.text for leaf in Pattern(text).leaves(everything)] == ["a", "b", "c"]


def test_leaves_are_those_that_can_be_written():
    assert list(Pattern("[~a {x} | b]").leaves(training)) == [Literal("b")]
    assert list(Pattern("a {x}").leaves(training)) == [Literal("a"), Slot("x")]


def test_the_first_word_is_known():
    pattern = Pattern("[please] (go | {x}) home")
    assert pattern.can_begin_with("please")
    assert pattern.can_begin_with("anything"), "a slot may begin with any word"
    assert not Pattern("[please] go").can_begin_with("home")


@pytest.mark.parametrize("text", ["(a | b", "a)", "[a", "a ]"])
def test_brackets_must_close(text):
    with pytest.raises(ValueError, match=r"missing|closes nothing"):
        _ = Pattern(text).node
