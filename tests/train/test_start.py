"""Where a policy's weights start."""

import pytest
import torch

from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm
from vlm4vla.train.mimetic_init import start_language_model
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.provenance import lineage, remember
from vlm4vla.train.start import identity_of, start_policy

SMALL = {"vision_layers": 3, "vision_width": 48, "language_layers": 2, "language_width": 48}
UP = "base.language_model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    made = make_backbone(seed=5, **SMALL, heads=4)
    remember(made, "language", {}, {}, {})
    save_vlm(made, folder)
    return folder


def weights(vlm, init, seed=0):
    policy = start_policy(vlm, init, "cpu", "zero", seed)
    return {name: value.detach().clone() for name, value in policy.named_parameters()}, policy


def test_the_mimetic_start_is_the_one_that_pretraining_had(vlm):
    found, policy = weights(vlm, "mimetic", seed=5)
    began = make_backbone(seed=5, **SMALL, heads=4).base
    for name, value in began.named_parameters():
        assert torch.equal(found[f"base.{name}"], value), name
    assert lineage(policy.vlm) == []
    for layer in policy.base.language_model.layers:
        assert torch.equal(layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight)


def test_scratch_is_as_the_class_draws_it(vlm):
    found, policy = weights(vlm, "scratch")
    # transformers draws with a deviation of 0.02; the mimetic start has 48 ** -0.5 = 0.144.
    assert abs(found[UP].std().item() - 0.02) < 0.002
    layer = policy.base.language_model.layers[0].self_attn
    assert not torch.equal(layer.q_proj.weight, layer.k_proj.weight)


@pytest.mark.parametrize("init", ["vlm", "scratch", "mimetic"])
def test_a_training_seed_draws_every_new_weight_and_no_other(vlm, init):
    first, again, other = (weights(vlm, init, seed)[0] for seed in (1, 1, 2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    heads = [name for name in first if name.startswith("head.") and first[name].ndim == 2]
    assert heads
    assert not any(torch.equal(first[name], other[name]) for name in heads)
    assert torch.equal(first[UP], other[UP]) == (init == "vlm")


def test_a_checkpoint_in_half_precision_learns_in_single_precision(vlm, tmp_path):
    half = Policy.from_vlm(vlm, dtype=torch.bfloat16, device="cpu")
    half.save_pretrained(tmp_path / "checkpoint")
    assert Policy.from_pretrained(tmp_path / "checkpoint", "cpu").base.dtype == torch.bfloat16
    policy = start_policy(tmp_path / "checkpoint", "vlm", "cpu")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert torch.equal(dict(policy.named_parameters())[UP], dict(half.named_parameters())[UP])


def test_the_rest_of_the_process_draws_what_it_would_have_drawn(vlm):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    start_policy(vlm, "mimetic", "cpu", "zero", 7)
    assert torch.equal(torch.rand(2), wanted)


def test_shared_key_heads_cannot_have_the_mimetic_start():
    layer = torch.nn.Module()
    layer.self_attn = torch.nn.Module()
    for name, rows in (("q_proj", 8), ("k_proj", 4), ("v_proj", 4), ("o_proj", 8)):
        setattr(layer.self_attn, name, torch.nn.Linear(8, rows))
    layer.mlp = torch.nn.Module()
    for name in ("gate_proj", "up_proj", "down_proj"):
        setattr(layer.mlp, name, torch.nn.Linear(8, 8))
    with pytest.raises(UserError, match="--init scratch"):
        start_language_model(layer, 0)


def test_a_start_is_named_by_its_weights_or_as_it_was_given(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    # sha256 of sha256(b"abc"), by sha256sum.
    assert identity_of(tmp_path) == "4f8b42c22dd3729b"
    assert identity_of(tmp_path, "scratch") == "4f8b42c22dd3729b, scratch"
    assert identity_of("qwen3-vl:tiny") == "qwen3-vl:tiny"


def test_scratch_keeps_the_architecture_and_nothing_else(vlm):
    kept = start_policy(vlm, "vlm", "cpu")
    fresh = start_policy(vlm, "scratch", "cpu")
    assert [entry["stage"] for entry in lineage(kept.vlm)] == ["language"]
    assert lineage(fresh.vlm) == []
    pairs = zip(kept.named_parameters(), fresh.named_parameters(), strict=True)
    for (name, one), (other, two) in pairs:
        assert (name, one.shape) == (other, two.shape)
    words = "base.language_model.embed_tokens.weight"
    assert not torch.allclose(
        dict(kept.named_parameters())[words], dict(fresh.named_parameters())[words]
    )


def test_the_papers_query_starts_at_zero(vlm):
    policy = start_policy(vlm, "vlm", "cpu", "zero")
    assert not policy.query.any()
