import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import make_tiny
from vlm4vla.train.auxiliary.patch_words import (
    COLOUR_WORDS,
    IGNORED,
    KIND_WORDS,
    PatchWordLoss,
    alignment_accuracy,
    alignment_loss,
    label_patches,
    word_tokens,
)
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.synthetic.drawings import Item

RED = Item("red cube", 40.0, 24.0)
BLUE = Item("blue bowl", 100.0, 90.0)


def test_labels_follow_the_share_of_a_patch():
    segmentation = np.full((1, 8, 8), -1, np.int8)
    segmentation[0, 0:4, 0:4] = 0
    segmentation[0, 0:1, 4:6] = 1  # 2 of 16 pixels: neither empty nor enough
    segmentation[0, 4:6, 4:6] = 1  # 4 of 16
    labels = label_patches(segmentation, [[RED, BLUE]], 2)
    nothing = len(COLOUR_WORDS) - 1
    assert labels.colour.tolist() == [
        [COLOUR_WORDS.index("red"), IGNORED, nothing, COLOUR_WORDS.index("blue")]
    ]
    assert labels.kind.tolist() == [
        [KIND_WORDS.index("cube"), IGNORED, nothing, KIND_WORDS.index("bowl")]
    ]
    assert labels.shows.tolist() == [[True, False, False, True]]


def test_places_are_the_things_or_else_the_tokens_own():
    segmentation = np.full((1, 8, 8), -1, np.int8)
    segmentation[0, 0:4, 0:4] = 0
    labels = label_patches(segmentation, [[RED, BLUE]], 2)
    # The red cube's centre lies in cell 40 / 4 across and 24 / 4 down; the tokens' own centres
    # are at a quarter and three quarters of 32 cells.
    assert labels.across.tolist() == [[10, 24, 8, 24]]
    assert labels.down.tolist() == [[6, 8, 24, 24]]


def test_the_larger_thing_owns_a_patch():
    segmentation = np.zeros((1, 4, 4), np.int8)
    segmentation[0, :, 3] = 1
    labels = label_patches(segmentation, [[RED, BLUE]], 1)
    assert labels.colour.tolist() == [[COLOUR_WORDS.index("red")]]


def test_loss_weighs_empty_tokens_a_tenth_and_passes_over_what_is_ignored():
    words = torch.eye(3)
    tokens = torch.zeros(1, 3, 3)
    labels = torch.tensor([[0, 2, IGNORED]])
    shows = torch.tensor([[True, False, False]])
    # Both cross entropies are log 3, so the weighted mean is too.
    assert alignment_loss(tokens, words, labels, shows).item() == pytest.approx(np.log(3))
    tokens[0, 0, 0] = 100.0
    # The first is then 0 with weight 1, the second log 3 with weight 0.1.
    expected = 0.1 * np.log(3) / 1.1
    loss = alignment_loss(tokens, words, labels, shows)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_accuracy_counts_things_only():
    labels, shows = torch.tensor([[0, 0, 2]]), torch.tensor([[True, True, False]])
    assert alignment_accuracy(torch.eye(3)[None], torch.eye(3), labels, shows).item() == 0.5


def test_a_word_of_several_tokens_is_refused():
    tokenizer = make_tiny(["a cube"] * 3).tokenizer
    with pytest.raises(UserError, match="splits the word 'chartreuse'"):
        word_tokens(tokenizer, ["chartreuse"])


def marked(side):
    """Black pictures of which the i-th has one white cell, the i-th of `side` x `side`."""
    pictures = np.zeros((side * side, 128, 128, 3), np.uint8)
    cell = 128 // side
    for i in range(side * side):
        row, column = divmod(i, side)
        pictures[i, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 255
    return pictures


# Florence-2's tower is made of convolutions that overlap, and cannot be taken apart this way.
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"florence-2"}))
def test_what_learns_the_words_of_a_place_sees_that_place(family):
    """With attention switched off inside the tower, a mark changes the state of its place alone."""
    vlm = make_backbone(family)
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
    loss = PatchWordLoss(vlm)
    tower = vlm.base.get_submodule(vlm.family.vision[0])
    for name, parameter in tower.named_parameters():
        if "attn" in name or "attention" in name:
            torch.nn.init.zeros_(parameter)
    pictures = marked(loss.side)
    with torch.inference_mode(), loss.watching():
        plain = policy.encode(np.zeros((1, 128, 128, 3), np.uint8))
        before = loss._grids(plain.tokens)[0]
        after = loss._grids(policy.encode(pictures).tokens)[0]
    changed = (after - before).norm(dim=-1)
    assert changed.argmax(-1).tolist() == list(range(loss.side**2))
