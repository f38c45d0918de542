"""What is written is read back: the two directions of the table agree."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm4vla.language.corpus import any_meaning
from vlm4vla.language.meanings import ANCHORS, TARGET_KINDS, TASKS, Meaning, Noun, Reference
from vlm4vla.language.parse import read
from vlm4vla.language.vocabulary import COLOURS, KINDS, MOVABLE
from vlm4vla.language.write import write


def nouns(kinds):
    colour, kind = st.sampled_from(COLOURS), st.sampled_from(kinds)
    return st.one_of(
        st.builds(Noun, colour, kind), st.builds(Noun, colour), st.builds(Noun, st.none(), kind)
    )


@st.composite
def references(draw, kinds):
    noun = draw(st.one_of(nouns(kinds), st.just(Noun())))
    relation = draw(st.sampled_from([None, *ANCHORS]))
    if relation is None:
        return Reference(noun)
    if relation == "other than":
        if noun.colour:
            noun, without = Noun(noun.colour), Noun(None, draw(st.sampled_from(KINDS)))
        else:
            without = Noun(draw(st.sampled_from(COLOURS)))
        return Reference(noun, relation, (without,))
    count = ANCHORS[relation]
    anchors = draw(st.lists(nouns(KINDS), min_size=count, max_size=count, unique=True))
    return Reference(noun, relation, tuple(anchors))


@st.composite
def meanings(draw):
    task = draw(st.sampled_from(TASKS))
    kinds = TARGET_KINDS[task]
    target = draw(references(kinds)) if kinds else None
    return Meaning(task, draw(references(MOVABLE)), target)


PATIENT = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def check(meaning, rng):
    found = read(write(meaning, rng).text)
    assert meaning in found
    # "Put it on the blue one": what is blue decides how it goes there, and nothing else is open.
    assert {(m.object, m.target) for m in found} == {(meaning.object, meaning.target)}
    if meaning.target is None or meaning.target.noun.kind:
        assert found == (meaning,)


@settings(PATIENT, max_examples=400)
@given(meanings(), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_as_what_was_meant(meaning, seed):
    check(meaning, np.random.default_rng(seed))


@pytest.mark.parametrize("hundreds", [10, pytest.param(100, marks=pytest.mark.long)])
def test_meanings_that_are_drawn_are_read_as_they_were_meant(hundreds):
    # A hundred meanings of a seed: drawing each with hypothesis takes longer than reading it.
    for seed in range(hundreds):
        rng = np.random.default_rng(seed)
        for index in range(100):
            check(any_meaning(TASKS[index % len(TASKS)], rng), rng)
