import numpy as np
import pytest
import torch

from vlm4vla.errors import UserError
from vlm4vla.model.vlm import make_tiny
from vlm4vla.train.alignment import (
    COLOUR_WORDS,
    IGNORED,
    KIND_WORDS,
    alignment_accuracy,
    alignment_loss,
    patch_words,
    word_tokens,
)


def test_labels_follow_the_share_of_a_patch():
    segmentation = np.full((1, 8, 8), -1, np.int8)
    segmentation[0, 0:4, 0:4] = 0
    segmentation[0, 0:1, 4:6] = 1  # 2 of 16 pixels: neither empty nor enough
    segmentation[0, 4:6, 4:6] = 1  # 4 of 16
    labels = patch_words(segmentation, [["red cube", "blue bowl"]], 2)
    nothing = len(COLOUR_WORDS) - 1
    assert labels.colours.tolist() == [
        [COLOUR_WORDS.index("red"), IGNORED, nothing, COLOUR_WORDS.index("blue")]
    ]
    assert labels.kinds.tolist() == [
        [KIND_WORDS.index("cube"), IGNORED, nothing, KIND_WORDS.index("bowl")]
    ]


def test_the_larger_thing_owns_a_patch():
    segmentation = np.zeros((1, 4, 4), np.int8)
    segmentation[0, :, 3] = 1
    labels = patch_words(segmentation, [["red cube", "blue bowl"]], 1)
    assert labels.colours.tolist() == [[COLOUR_WORDS.index("red")]]


def test_loss_weighs_nothing_a_tenth_and_passes_over_what_is_ignored():
    words = torch.eye(3)
    tokens = torch.zeros(1, 3, 3)
    labels = torch.tensor([[0, 2, IGNORED]])
    # Both cross entropies are log 3, so the weighted mean is too.
    assert alignment_loss(tokens, words, labels).item() == pytest.approx(np.log(3))
    tokens[0, 0, 0] = 100.0
    # The first is then 0 with weight 1, the second log 3 with weight 0.1.
    expected = 0.1 * np.log(3) / 1.1
    assert alignment_loss(tokens, words, labels).item() == pytest.approx(expected, rel=1e-4)


def test_accuracy_counts_things_only():
    words = torch.eye(3)
    tokens = torch.eye(3)[None]
    assert alignment_accuracy(tokens, words, torch.tensor([[0, 0, 2]])).item() == 0.5


def test_a_word_of_several_tokens_is_refused():
    tokenizer = make_tiny(["a cube"] * 3).tokenizer
    with pytest.raises(UserError, match="splits the word 'chartreuse'"):
        word_tokens(tokenizer, ["chartreuse"])
