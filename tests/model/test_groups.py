import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.groups import GROUPS, describe_trainable, parameter_groups, set_trainable
from vlm4vla.model.policy import Policy


@pytest.fixture
def fresh(small):
    """A policy of a family that the test may change."""
    return lambda family: Policy(small(family), action.tiny())


def test_qwens_merger_freezes_with_its_vision_encoder(fresh):
    belongs = parameter_groups(fresh("qwen3-vl"))
    merger = {g for n, g in belongs.items() if "merger" in n}
    assert merger == {"vision"}
    assert "projector" not in belongs.values()


@pytest.mark.parametrize("family", ["paligemma", "internvl", "kosmos-2"])
def test_projector_outside_stays_trainable_when_vision_freezes(fresh, family):
    policy = fresh(family)
    set_trainable(policy, ["language", "embeddings", "projector", "head"])
    sizes = describe_trainable(policy)
    assert sizes["vision"].trainable == 0 < sizes["vision"].parameters
    assert sizes["projector"].trainable == sizes["projector"].parameters > 0


def test_exactly_the_named_groups_learn(fresh):
    policy = fresh("paligemma")
    set_trainable(policy, ["embeddings", "head"])
    learning = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert learning == {"base.language_model.embed_tokens.weight", "query"} | {
        f"head.{n}" for n, _ in policy.head.named_parameters()
    }


def test_a_step_leaves_frozen_groups_bit_equal(fresh, pictures):
    policy = fresh("paligemma")
    set_trainable(policy, [g for g in GROUPS if g != "vision"])
    before = {n: p.detach().clone() for n, p in policy.named_parameters()}
    optimiser = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=1.0)
    prediction = policy(pictures[:1], ["go"])
    (prediction.arm.sum() + prediction.gripper.sum()).backward()
    optimiser.step()
    belongs = parameter_groups(policy)
    moved = {belongs[n] for n, p in policy.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(GROUPS) - {"vision"}


def test_sizes_add_up(fresh):
    policy = fresh("florence-2")
    sizes = describe_trainable(policy)
    assert sum(s.parameters for s in sizes.values()) == sum(p.numel() for p in policy.parameters())
    assert sizes["embeddings"].parameters == policy.vlm.words.numel()


@pytest.mark.parametrize(("groups", "words"), [(["eyes"], "eyes"), ([], "Nothing learns")])
def test_senseless_choices_are_refused(fresh, groups, words):
    with pytest.raises(UserError, match=words):
        set_trainable(fresh("paligemma"), groups)


def test_only_an_empty_group_is_refused(fresh):
    with pytest.raises(UserError, match="Nothing learns with projector"):
        set_trainable(fresh("qwen3-vl"), ["projector"])
