"""A VLM that reads with another tokenizer."""

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import make_tiny
from vlm4vla.model.vocabulary import take_words

PICTURE = np.arange(128 * 128 * 3, dtype=np.uint8).reshape(1, 128, 128, 3)
KNOWN = ["pick up the red cube"] * 20
BROAD = [*KNOWN, *["grab the leftmost crimson block"] * 20]


@pytest.fixture
def policy():
    return Policy.from_vlm(make_tiny(KNOWN), action.tiny())


def test_sentences_that_are_spelt_as_before_move_the_policy_as_before(policy):
    before = policy.act(PICTURE, KNOWN[:1])
    broad = policy.act(PICTURE, ["grab the leftmost crimson block"])
    take_words(policy.vlm, make_tiny(BROAD).tokenizer)
    np.testing.assert_array_equal(policy.act(PICTURE, KNOWN[:1]), before)
    assert not np.array_equal(policy.act(PICTURE, ["grab the leftmost crimson block"]), broad)


def test_a_new_word_begins_as_the_mean_of_its_pieces(policy):
    vlm = policy.vlm
    pieces = vlm.tokenizer.encode(" crimson").ids
    assert len(pieces) > 1
    expected = vlm.words.detach()[pieces].mean(0)
    take_words(vlm, make_tiny(BROAD).tokenizer)
    (word,) = vlm.tokenizer.encode(" crimson").ids
    torch.testing.assert_close(vlm.words[word], expected)
    size = vlm.tokenizer.get_vocab_size()
    assert len(vlm.words) == vlm.base.config.get_text_config().vocab_size == size


def test_what_it_learns_next_reaches_the_new_words(policy):
    take_words(policy.vlm, make_tiny(BROAD).tokenizer)
    policy(PICTURE, ["grab the leftmost crimson block"]).arm.sum().backward()
    (word,) = policy.vlm.tokenizer.encode(" crimson").ids
    assert policy.vlm.words.grad[word].any()
    assert any(weight is policy.vlm.words for weight in policy.parameters())


def test_it_comes_back_from_its_checkpoint(policy, tmp_path):
    take_words(policy.vlm, make_tiny(BROAD).tokenizer)
    policy.save_pretrained(tmp_path / "policy")
    again = Policy.from_pretrained(tmp_path / "policy", "cpu")
    sentences = ["grab the leftmost crimson block"]
    np.testing.assert_array_equal(again.act(PICTURE, sentences), policy.act(PICTURE, sentences))


def test_words_of_another_family_are_refused(policy):
    before = policy.vlm.tokenizer
    with pytest.raises(UserError, match="has the number"):
        take_words(policy.vlm, make_tiny(KNOWN, "paligemma").tokenizer)
    assert policy.vlm.tokenizer is before


def test_action_tokens_are_not_lost(policy):
    policy.vlm.tokenizer.add_special_tokens(["<action 0>"])
    with pytest.raises(UserError, match=r"'<action 0>' has the number \d+ in .* none"):
        take_words(policy.vlm, make_tiny(BROAD).tokenizer)
