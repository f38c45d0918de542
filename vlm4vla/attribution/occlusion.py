"""Occlusion: what changes if a picture cell is covered, or a word is left out."""

import numpy as np

from vlm4vla.attribution.inputs import (
    GRID,
    Cover,
    Question,
    covered,
    mean_colour,
    without_each_word,
)
from vlm4vla.attribution.score import Attribution, Explained, picture_values, sentence_values
from vlm4vla.attribution.target import Target


def occlusion(
    policy: Explained, question: Question, target: Target, *, cover: Cover = mean_colour
) -> Attribution:
    """Occlusion of the picture, a cell at a time: the value minus the value without the cell.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: the value.
        cover: what is seen in the place of a cell.
    """
    nothing_and_each = np.vstack([np.zeros(GRID**2, bool), np.eye(GRID**2, dtype=bool)])
    pictures = covered(question.picture, nothing_and_each, cover)
    value, *without = picture_values(policy, question, target, pictures)
    return Attribution((value - np.array(without)).reshape(GRID, GRID), float(value))


def leave_one_word_out(policy: Explained, question: Question, target: Target) -> Attribution:
    """Leave-one-word-out: the value minus the value of the sentence without each word.

    Shorter sentences take the whole way from text to tokens, so words are those of
    `vlm4vla.attribution.inputs.words`, not pieces of the tokenizer.

    Raises:
        UserError: the sentence has no word.
    """
    sentences = [question.instruction, *without_each_word(question.instruction)]
    value, *without = sentence_values(policy, question, target, sentences)
    return Attribution(value - np.array(without), float(value))
