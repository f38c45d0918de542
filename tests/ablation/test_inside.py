"""Layers and heads that are skipped, in every family, and a policy that is itself afterwards."""

import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.ablation.inside import (
    INSIDE,
    ChangedPolicyAgent,
    changed,
    layers_of,
    without_image_tokens,
)
from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.agents.policy import PolicyAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId
from vlm4vla.core.observation import Observation
from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP

WORDS = ["pick up the red cube"]
STAGED = {"florence-2": ("vision", "language")}
"""Parts whose layers stand in several lists."""


def made(small, name):
    return Policy(small(name), action.tiny(), query_init="embedding").eval()


def hooks(policy):
    return [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in policy.named_modules()
    ]


def act(policy, pictures, *changes):
    with changed(policy, changes):
        return policy.act(pictures[:1], WORDS)


def test_every_perturbation_inside_is_carried_out():
    assert {n for n in PERTURBATIONS if PERTURBATIONS.get(n).place == "inside"} == set(INSIDE)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("part", ["vision", "language"])
def test_a_skipped_layer_or_head_changes_the_action_and_nothing_stays(name, part, small, pictures):
    policy = made(small, name)
    # The VLM's own class may attach its hooks at the first call.
    intact, before = policy.act(pictures[:1], WORDS), hooks(policy)
    layer = perturbation(f"skip-{part}-layer", {"layer": 0})
    head = perturbation("skip-head", {"part": part, "layer": 0, "head": 1})
    try:
        layers = layers_of(policy, part)
    except UserError as told:
        assert "none can be skipped by its number" in str(told)
        assert name in STAGED and part in STAGED[name]
        return
    assert len(layers) >= 1 and part not in STAGED.get(name, ())
    for change in (layer, head):
        assert np.abs(act(policy, pictures, change) - intact).max() > 0
        assert hooks(policy) == before
        np.testing.assert_array_equal(policy.act(pictures[:1], WORDS), intact)
    with pytest.raises(UserError, match=f"no layer {len(layers)}"):
        act(policy, pictures, perturbation(f"skip-{part}-layer", {"layer": len(layers)}))
    with pytest.raises(UserError, match="no head 999"):
        act(policy, pictures, perturbation("skip-head", {"part": part, "head": 999}))
    assert hooks(policy) == before


def test_hooks_go_after_an_error_and_other_threads_never_feel_them(small, pictures):
    policy = made(small, "qwen3-vl")
    intact, before = policy.act(pictures[:1], WORDS), hooks(policy)
    change = perturbation("skip-language-layer", {"layer": 1})
    found = []
    with suppress(RuntimeError), changed(policy, [change]):
        other = threading.Thread(target=lambda: found.append(policy.act(pictures[:1], WORDS)))
        other.start()
        other.join(60)
        raise RuntimeError("in the middle of a call")
    np.testing.assert_array_equal(found[0], intact)
    assert hooks(policy) == before


def test_a_skipped_layer_hands_on_exactly_what_it_was_given(small, pictures):
    policy = made(small, "qwen3-vl")
    layers, seen = layers_of(policy, "language"), {}
    layers[0].register_forward_pre_hook(
        lambda m, a, k: seen.update(given=(a[0] if a else k["hidden_states"]).clone()),
        with_kwargs=True,
    )
    with changed(policy, [perturbation("skip-language-layer", {"layer": 0})]):
        layers[0].register_forward_hook(lambda m, a, out: seen.update(out=out))
        policy.act(pictures[:1], WORDS)
    out = seen["out"][0] if isinstance(seen["out"], tuple) else seen["out"]
    torch.testing.assert_close(out.reshape(seen["given"].shape), seen["given"], atol=0, rtol=0)


def test_without_image_tokens_no_picture_can_be_told_from_another(small, pictures):
    policy = made(small, "qwen3-vl")
    one = policy.act(pictures[:1], WORDS, without_image_tokens)
    np.testing.assert_array_equal(one, policy.act(pictures[1:2], WORDS, without_image_tokens))
    assert np.abs(one - policy.act(pictures[:1], WORDS)).max() > 0


def test_the_agent_skips_from_a_step_to_a_step(small, pictures):
    policy = made(small, "qwen3-vl")
    plain = PolicyAgent(policy, AgentId("policy", "0123", "small"))
    agent = ChangedPolicyAgent(plain)
    change = perturbation("skip-image-tokens", {}, 4, 7)
    agent.prepare(TABLETOP.spec("pick", 3, Condition(perturbations=(change,))))
    agent.reset(WORDS[0]), plain.reset(WORDS[0])
    same = []
    for step in (0, 4, 7, 8):
        seen = Observation(step, {"policy": pictures[0]}, np.zeros(4, np.float32))
        same.append(bool((agent.act(seen) == plain.act(seen)).all()))
    assert same == [True, False, False, True]
    missing = perturbation("skip-vision-layer", {"layer": 50})
    with pytest.raises(UserError, match="no layer 50"):
        agent.prepare(TABLETOP.spec("pick", 3, Condition(perturbations=(missing,))))
