"""Predictions from packed rows; `tests/train/speed/test_packed.py` has their gradients."""

import numpy as np
import pytest
import torch

from tests.attribution.toys import CornerPolicy, small
from vlm4vla import action
from vlm4vla.model.packed import packed_prediction, predicts_packed
from vlm4vla.model.policy import Policy
from vlm4vla.model.tokenizer import CORPUS
from vlm4vla.model.vlm import make_tiny

SENTENCES = ["pick up the red cube", "go", "put the blue ball beside the green bowl"]
"""Of different lengths, so that rows have padding."""


@pytest.fixture(scope="module")
def policy():
    return small("qwen3-vl")


def pictures():
    return np.random.default_rng(3).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("merge", [1, 2])
def test_packed_predictions_are_the_policys_own(merge):
    sizes = {"vision_layers": 4, "vision_width": 48, "language_layers": 3, "language_width": 48}
    vlm = make_tiny(CORPUS, "qwen3-vl", merge=merge, heads=2, **sizes)
    policy = Policy(vlm, action.tiny(), "embedding").eval()
    rows = policy.prompt(SENTENCES)
    assert predicts_packed(policy)
    before = dict(policy.named_modules())
    found = packed_prediction(policy, pictures(), rows)
    assert dict(policy.named_modules()) == before
    assert not any("forward" in vars(module) for module in before.values())
    with torch.no_grad():
        own = policy.predict(policy.encode(pictures()), rows)
        alone = policy.predict(policy.encode(pictures()[1:2]), policy.prompt(SENTENCES[1:2]))
    for one, other, single in zip(found, own, alone, strict=True):
        assert not one.requires_grad
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(one[1:2], single, rtol=1e-5, atol=1e-5)
        assert (one[0] - one[1]).abs().max() > 1e-3


def test_who_listens_or_changes_a_part_gets_the_policys_own_layers(policy):
    assert predicts_packed(policy)
    for part in (policy.base.visual.blocks[1], policy.base.language_model.layers[0].mlp):
        handle = part.register_forward_hook(lambda *_: None)
        assert not predicts_packed(policy)
        handle.remove()
        assert predicts_packed(policy)
    assert not predicts_packed(small("qwen3-vl", CornerPolicy))
    assert not predicts_packed(small("internvl"))
    policy.train()
    assert not predicts_packed(policy)
    policy.eval()
