"""Occlusion: what changes if a cell is covered, a thing is gone, or a word is left out or another.

All changed inputs of a map go through the policy in batches.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vlm4vla.attribution.inputs import (
    GRID,
    Cells,
    Cover,
    Question,
    alternatives,
    blurred,
    covered,
    grey,
    mean_colour,
    without_each_word,
    words,
)
from vlm4vla.attribution.score import (
    Attribution,
    Explained,
    picture_values,
    predictions,
    sentence_values,
    values_of,
)
from vlm4vla.attribution.target import Target
from vlm4vla.core.observation import Image
from vlm4vla.model.head import Prediction


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
    [found] = occlusions(policy, question, [target], cover=cover)
    return found


def occlusions(
    policy: Explained,
    question: Question,
    targets: Sequence[Target],
    *,
    cover: Cover = mean_colour,
) -> list[Attribution]:
    """Occlusion for several targets, from the same covered pictures; see `occlusion`."""
    nothing_and_each = np.vstack([np.zeros(GRID**2, bool), np.eye(GRID**2, dtype=bool)])
    found = predictions(policy, question, covered(question.picture, nothing_and_each, cover))
    before = Prediction(*(part[:1] for part in found))
    maps = []
    for target in targets:
        value, *without = values_of(policy, target, found, before)
        scores = (value - np.array(without)).reshape(GRID, GRID)
        maps.append(Attribution(scores, float(value)))
    return maps


def occlusion_grey(policy: Explained, question: Question, target: Target) -> Attribution:
    """Occlusion with cells in middle grey; see `occlusion`."""
    return occlusion(policy, question, target, cover=grey)


def occlusion_blur(policy: Explained, question: Question, target: Target) -> Attribution:
    """Occlusion with blurred cells; see `occlusion`."""
    return occlusion(policy, question, target, cover=blurred)


def object_occlusion(
    policy: Explained, question: Question, target: Target, without: Mapping[str, Image]
) -> Attribution:
    """Occlusion by object: the value minus the value of the picture without each thing.

    Args:
        policy: whom to explain.
        question: picture and sentence.
        target: the value.
        without: pictures (H, W, 3) without the thing of that name, from `painted_over` or
            `vlm4vla.attribution.scene.drawn_without`; scores come in their order.
    """
    pictures = np.stack([question.picture, *without.values()])
    value, *others = picture_values(policy, question, target, pictures)
    return Attribution(value - np.array(others), float(value))


def painted_over(
    picture: Image, regions: Mapping[str, Cells], cover: Cover = mean_colour
) -> dict[str, Image]:
    """The picture with the pixels of each region (H, W) as `cover` has them, by its name."""
    instead = cover(picture)
    return {name: np.where(region[..., None], instead, picture) for name, region in regions.items()}


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


def replace_one_word(policy: Explained, question: Question, target: Target) -> Attribution:
    """Replace-one-word: the value minus the mean value with other words in a word's place.

    The others are `vlm4vla.attribution.inputs.alternatives`: a colour for a colour, a kind for a
    kind. Words that have none score NaN.
    """
    found = words(question.instruction)
    sentences, places = [question.instruction], []
    for place, word in enumerate(found):
        for other in alternatives(word):
            sentences.append(" ".join([*found[:place], other, *found[place + 1 :]]))
            places.append(place)
    value, *changed = sentence_values(policy, question, target, sentences)
    counts = np.bincount(places, minlength=len(found)).astype(float)
    sums = np.bincount(places, changed, minlength=len(found))
    means = np.divide(sums, counts, out=np.full(len(found), np.nan), where=counts > 0)
    return Attribution(value - means, float(value))
