import shutil

import numpy as np
import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from vlm4vla import action
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.speed.cpu_layers import chosen_layers, fast_layers
from vlm4vla.train.speed.prefix_cache import ask_rows, query_of, row_states

SIZES = {"vision_layers": 3, "vision_width": 48, "language_layers": 3, "language_width": 48}


@pytest.fixture(scope="module")
def policy():
    return Policy.from_vlm(
        make_backbone(**SIZES, heads=4), action.tiny(), query_init="embedding", device="cpu"
    )


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, size=(3, 128, 128, 3), dtype=np.uint8))


INDEX = torch.tensor([0, 0, 1, 2, 2])
TEXTS = ["Point at the red cube.", "What is the blue thing?", "a", "Is there a red ball?", "b c"]


def shared_query_state(policy, images):
    """The query's state as training has it."""
    texts = [policy.vlm.family.text(text) for text in TEXTS]
    asked = to_tensors(ask_rows(policy.vlm, texts, None, INDEX.numpy()), policy.device)
    states, column = row_states(policy, policy.encode(images), asked)
    return query_of(policy, states, asked, column)


def test_states_are_those_of_the_whole_rows_in_every_family_that_shares(images):
    answers = ["<across_01><down_02>", " cube", " yes", " no", " one two"]
    sharing = [name for name in FAMILIES if FAMILIES.get(name).causal]
    assert {"qwen3-vl", "internvl"} <= set(sharing)
    for name in sharing:
        sizes = {"width": 48, "layers": 3} if name == "internvl" else SIZES
        vlm = make_backbone(name, **sizes, heads=4)
        policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
        asked = to_tensors(ask_rows(vlm, TEXTS, answers, INDEX.numpy()), policy.device)
        rows = asked.rows
        with torch.inference_mode():
            features = policy.encode(images)
            whole = policy.states(features, rows, INDEX)
            part, column = row_states(policy, features, asked)
        attended = rows.attention[:, column:].bool()
        assert column == int(rows.is_image.sum(1)[0]) + int(rows.is_image[0].nonzero()[0])
        assert torch.allclose(part[attended], whole[:, column:][attended], atol=3e-5), name


def test_one_row_a_picture_shares_nothing_and_runs_whole(policy, images):
    order = torch.tensor([2, 0, 1])
    asked = to_tensors(ask_rows(policy.vlm, TEXTS[:3], None, order.numpy()), policy.device)
    with torch.inference_mode():
        features = policy.encode(images)
        states, column = row_states(policy, features, asked)
        whole = policy.states(features, asked.rows, order)
    assert column == 0
    assert torch.equal(states, whole)


def test_a_family_with_prefix_attention_runs_rows_whole(images):
    vlm = make_backbone("paligemma", width=48, layers=2, vision_layers=1, heads=4)
    policy = Policy.from_vlm(vlm, action.tiny(), device="cpu")
    with torch.inference_mode():
        whole = policy.query_state(policy.encode(images), TEXTS, INDEX)
        part = shared_query_state(policy, images)
    assert torch.equal(part, whole)


def test_the_query_sees_the_same(policy, images):
    with torch.inference_mode():
        whole = policy.query_state(policy.encode(images), TEXTS, INDEX)
        part = shared_query_state(policy, images)
    assert torch.allclose(part, whole, atol=2e-5)


def test_gradients_are_the_same(policy, images):
    gradients = []
    # States have a fixed length, so their squares would teach nothing: a direction does.
    probe = torch.randn(policy.vlm.width, generator=torch.Generator().manual_seed(0))
    for shared in (False, True):
        policy.zero_grad(set_to_none=True)
        if shared:
            state = shared_query_state(policy, images)
        else:
            state = policy.query_state(policy.encode(images), TEXTS, INDEX)
        (state @ probe).sum().backward()
        gradients.append({n: p.grad for n, p in policy.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        atol = 1e-4 * max(1.0, float(value.abs().max()))
        assert torch.allclose(gradients[1][name], value, rtol=1e-3, atol=atol), name
    policy.zero_grad(set_to_none=True)


def test_fast_layers_give_the_same_and_go_away(policy, images):
    before = (
        policy.base.config._attn_implementation,
        policy.base.visual.config._attn_implementation,
    )
    with torch.inference_mode():
        plain = shared_query_state(policy, images)
        with fast_layers(policy):
            assert policy.base.config._attn_implementation == "eager"
            assert not isinstance(policy.base.visual.patch_embed.proj, torch.nn.Conv3d)
            quick = shared_query_state(policy, images)
    assert torch.allclose(plain, quick, atol=2e-5)
    after = (
        policy.base.config._attn_implementation,
        policy.base.visual.config._attn_implementation,
    )
    assert after == before
    assert isinstance(policy.base.visual.patch_embed.proj, torch.nn.Conv3d)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
def test_compiled_layers_give_the_same_and_go_away(images):
    sizes = {**SIZES, "vision_layers": 1, "language_layers": 1}
    small = Policy.from_vlm(make_backbone(**sizes, heads=4), action.tiny(), device="cpu")
    probe = torch.randn(small.vlm.width, generator=torch.Generator().manual_seed(0))
    layers = {
        name: module
        for name, module in small.base.named_modules()
        if isinstance(module, GradientCheckpointingLayer)
    }

    def state_and_gradient():
        state = shared_query_state(small, images)
        gradient = torch.autograd.grad(state @ probe, small.vlm.words, torch.ones(len(TEXTS)))[0]
        return state.detach(), gradient

    with fast_layers(small):
        plain, gradient = state_and_gradient()
        with chosen_layers(small, True):
            assert [name for name, m in layers.items() if m._compiled_call_impl] == [
                "language_model.layers.0"
            ]
            compiled, other = state_and_gradient()
    assert torch.allclose(plain, compiled, atol=2e-5)
    assert torch.allclose(
        gradient, other, rtol=1e-3, atol=1e-4 * max(1.0, float(gradient.abs().max()))
    )
    assert len(layers) == 2
    assert not any(layer._compiled_call_impl for layer in layers.values())
