import shutil

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.model.policy import Policy
from vlm4vla.train.auxiliary.noun_positions import NounPositionLoss
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers
from vlm4vla.train.speed.packed import is_packed, packed_layers, why_not_packed
from vlm4vla.train.speed.prefix_cache import ask_rows, query_of, row_states

SIZES = {"vision_layers": 3, "vision_width": 48, "language_layers": 3, "language_width": 48}
TEXTS = ["Pick up the red cube.", "b", "Is there a red ball beside the blue bowl?", "go", "b c d"]
ANSWERS = ["<across_01><down_02>", " cube", " yes it is there", " no", " one two"]
UNEQUAL = np.array([2, 0, 2, 0, 2])
"""The picture of each row: out of order, three of one, two of another, none of the third."""


def small(**changes):
    vlm = make_backbone(**{**SIZES, **changes}, heads=4)
    return Policy.from_vlm(vlm, action.tiny(), query_init="embedding", device="cpu")


@pytest.fixture(scope="module")
def policy():
    return small()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, size=(3, 128, 128, 3), dtype=np.uint8))


def read(rows, column):
    """Where states are read, worked out row by row."""
    found = []
    for r in range(len(rows.ids)):
        for c in range(column, rows.ids.shape[1]):
            if rows.ids[r, c] == -1 or (c + 1 < rows.ids.shape[1] and rows.is_answer[r, c + 1]):
                found.append((r, c - column))
    return tuple(torch.tensor(found).T)


def loss_and_gradients(policy, images, answers, index):
    """Of a loss that reads states, the middle layer's states and picture tokens."""
    names = NounPositionLoss(policy.vlm)
    asked = to_tensors(ask_rows(policy.vlm, TEXTS, answers, index), policy.device)
    policy.zero_grad(set_to_none=True)
    draws = torch.Generator().manual_seed(1)
    features = policy.encode(images)
    with names.listening():
        states, column = row_states(policy, features, asked)
    if answers is None:
        found = query_of(policy, states, asked, column)
    else:
        found = states[read(asked.rows, column)]
    # Rows that ran whole have states of the picture too.
    own = asked.rows.attention[:, asked.beginning :].bool()
    parts = [found, names._states[:, asked.beginning - column :][own], features.tokens]
    loss = sum((p * torch.randn(p.shape, generator=draws)).sum() for p in parts)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return loss.detach(), found.detach(), gradients


def compare(one, other):
    assert torch.allclose(one[0], other[0], rtol=1e-5, atol=1e-4)
    assert one[1].shape == other[1].shape
    assert float((one[1] - other[1]).abs().max()) < 1e-5 * float(one[1].abs().max())
    assert one[2].keys() == other[2].keys()
    for name, gradient in one[2].items():
        # A key's bias moves all scores of a query alike: its gradient is rounding alone.
        largest = max(float(gradient.abs().max()), 1e-1)
        assert float((gradient - other[2][name]).abs().max()) < 1e-5 * largest, name


@pytest.mark.parametrize("answers", [None, ANSWERS], ids=["query", "answers"])
@pytest.mark.parametrize("index", [UNEQUAL, np.array([0, 1, 1, 2, 2])], ids=["unequal", "ordered"])
def test_packed_rows_give_the_same_loss_and_gradients(policy, images, answers, index):
    plain = loss_and_gradients(policy, images, answers, index)
    with packed_layers(policy):
        packed = loss_and_gradients(policy, images, answers, index)
    compare(plain, packed)


def test_one_row_a_picture_and_merged_patches_give_the_same(images):
    merged = small(merge=2)
    pictures = torch.cat([images, images[:2].flip(1)])
    plain = loss_and_gradients(merged, pictures, None, np.arange(5))
    with packed_layers(merged):
        packed = loss_and_gradients(merged, pictures, None, np.arange(5))
    compare(plain, packed)


def test_what_needs_no_gradient_and_what_comes_after_take_the_own_way(policy, images):
    own = {type(block).forward for block in policy.base.visual.blocks}
    plain = policy.encode(images).tokens
    with packed_layers(policy):
        assert is_packed(policy)
        with torch.inference_mode():
            assert not is_packed(policy)
            assert torch.equal(policy.encode(images).tokens, plain)
    assert not is_packed(policy)
    assert {block.forward.__func__ for block in policy.base.visual.blocks} == own


def test_why_a_policy_cannot(policy):
    assert why_not_packed(policy) is None
    assert "single layer" in why_not_packed(small(language_layers=1))
    other = make_backbone("paligemma", width=48, layers=2, vision_layers=1, heads=4)
    assert "paligemma" in why_not_packed(Policy.from_vlm(other, action.tiny(), device="cpu"))


def test_the_choice_is_printed_with_its_reason(policy, capsys):
    with chosen_layers(policy, False):
        assert is_packed(policy)
    assert "packed rows" in capsys.readouterr().out
    single = small(language_layers=1)
    with chosen_layers(single, False):
        assert not is_packed(single)
    assert "single layer" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_compiled_they_give_the_same_whatever_came_before(images, capsys):
    tiny = small(vision_layers=1, language_layers=2)
    with fast_layers(tiny):
        plain = loss_and_gradients(tiny, images, None, UNEQUAL)
        with chosen_layers(tiny, True):
            assert "packed rows" in capsys.readouterr().out
            first = loss_and_gradients(tiny, images, None, UNEQUAL)
            ordered = loss_and_gradients(tiny, images, None, np.array([0, 1, 1, 2, 2]))
            again = loss_and_gradients(tiny, images, None, UNEQUAL)
        torch._dynamo.reset()
        with chosen_layers(tiny, True):
            begun_later = loss_and_gradients(tiny, images, None, np.array([0, 1, 1, 2, 2]))
    compare(plain, first)
    assert all(torch.equal(first[2][name], again[2][name]) for name in first[2])
    assert all(torch.equal(ordered[2][name], begun_later[2][name]) for name in ordered[2])
