"""Methods that look inside a VLM, in every shipped family; nothing of them stays on it."""

import threading

import numpy as np
import pytest
import torch

from tests.attribution.toys import SIZES, noise, small
from vlm4vla.attribution.attention import attention, attention_by_layer, query_attention, rolled_out
from vlm4vla.attribution.grad_cam import grad_cam, grad_cam_by_layer
from vlm4vla.attribution.internals import (
    language_layers,
    outputs_of,
    patch_grid,
    patches_a_side,
    recorded_attention,
    vision_layers,
)
from vlm4vla.attribution.methods import METHODS
from vlm4vla.attribution.score import intact
from vlm4vla.attribution.target import AGREEMENT, DISPLACEMENT, GRIPPER
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy

FAMILIES = list(SIZES)
NO_TOKEN_GRID = {"kosmos-2": {"gradient", "integrated", "attention"}}


@pytest.fixture(scope="module")
def policies():
    return {family: small(family) for family in FAMILIES}


def state_of(policy):
    """Everything that a method may have left behind."""
    return (
        [
            (
                name,
                len(part._forward_hooks),
                len(part._forward_pre_hooks),
                len(part._backward_hooks),
            )
            for name, part in policy.named_modules()
        ],
        [
            part.config._attn_implementation
            for part in policy.modules()
            if hasattr(getattr(part, "config", None), "_attn_implementation")
        ],
        [parameter.grad is None and parameter.requires_grad for parameter in policy.parameters()],
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_explains_every_family_or_says_why_not(policies, family):
    policy = policies[family]
    # Transformers puts hooks of its own on some models at their first call.
    acted = policy.act(noise().picture[None], ["go"])
    before = state_of(policy)
    for name, method in METHODS.items():
        if name in NO_TOKEN_GRID.get(family, ()):
            with pytest.raises(UserError, match="looked at the whole picture"):
                method(policy, noise(), GRIPPER)
        else:
            found = method(policy, noise(), GRIPPER)
            assert found.scores.shape == (8, 8) and np.isfinite(found.scores).all()
            assert found.scores.any(), name
            assert found.value == pytest.approx(
                float(intact(policy, noise()).gripper[0, 0]), abs=1e-4
            )
        assert state_of(policy) == before, name
    np.testing.assert_array_equal(policy.act(noise().picture[None], ["go"]), acted)


def test_nothing_stays_after_an_error(policies):
    policy = policies["qwen3-vl"]
    before = state_of(policy)

    def fails(*_):
        raise RuntimeError("in the middle")

    handle = list(language_layers(policy).values())[-1].register_forward_hook(fails)
    for name in ("gradient", "integrated", "grad-cam", "attention"):
        with pytest.raises(RuntimeError, match="in the middle"):
            METHODS[name](policy, noise(), DISPLACEMENT)
    handle.remove()
    handle = list(vision_layers(policy).values())[-1].register_forward_hook(fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        METHODS["rollout"](policy, noise(), DISPLACEMENT)
    handle.remove()
    assert state_of(policy) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_recorded_is_the_attention_that_is_used(policies, family):
    policy = policies[family]
    plain = policy.predict(policy.encode(noise().picture[None]), policy.prompt(["go"]))
    with recorded_attention(policy) as seen:
        recorded = policy.predict(policy.encode(noise().picture[None]), policy.prompt(["go"]))
    torch.testing.assert_close(recorded.arm, plain.arm, atol=1e-4, rtol=1e-4)
    for one in seen:
        torch.testing.assert_close(one.weights.sum(-1), torch.ones(one.weights.shape[:-1]))
    layers = {**vision_layers(policy), **language_layers(policy)}
    assert all(any(one.name.startswith(f"{name}.") for one in seen) for name in layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_who_acts_meanwhile_acts_as_always(policies, family):
    policy, picture = policies[family], noise().picture[None]
    alone = policy.act(picture, ["go"])
    layers = [*vision_layers(policy).values(), *language_layers(policy).values()]
    for layer in layers:
        began, over = threading.Event(), threading.Event()

        def record(began=began, over=over):
            with recorded_attention(policy) as seen:
                began.set()
                over.wait(60)
            assert not seen

        other = threading.Thread(target=record)

        def begin(*_, other=other, began=began):
            if not began.is_set():
                other.start()
                assert began.wait(60)

        # The masks of this call were made before, its layers from here on come after.
        handle = layer.register_forward_pre_hook(begin)
        acted = policy.act(picture, ["go"])
        handle.remove()
        # And this one's masks are made within, some of its layers outside.
        last = layers[-1].register_forward_pre_hook(lambda *_, over=over: over.set())
        again = policy.act(picture, ["go"])
        last.remove()
        other.join(60)
        np.testing.assert_array_equal(acted, alone)
        np.testing.assert_array_equal(again, alone)


def test_outputs_are_kept_of_this_threads_calls_alone(policies):
    policy, picture = policies["qwen3-vl"], noise().picture[None]
    layer = next(iter(vision_layers(policy).values()))
    with outputs_of(layer) as seen:
        other = threading.Thread(target=policy.act, args=(picture, ["go"]))
        other.start()
        other.join(60)
        assert not seen
        policy.act(picture, ["go"])
    assert len(seen) == 1


def test_the_querys_attention_is_transformers_own(policies):
    policy = policies["internvl"]
    found = query_attention(policy, noise())
    # Transformers' own eager attention, told by its own output.
    policy.base.set_attn_implementation("eager")
    rows = policy.prompt([noise().instruction])
    features = policy.encode(noise().picture[None])
    with torch.no_grad():
        output = policy.base(
            **features.arguments(policy.base, rows.ids, rows.is_image),
            attention_mask=rows.attention,
            output_attentions=True,
        )
    policy.base.set_attn_implementation("sdpa")
    own = torch.stack([one[0, :, -1, rows.is_image[0]] for one in output.attentions])
    np.testing.assert_allclose(found, own, atol=1e-5)
    mean = attention(policy, noise(), DISPLACEMENT).scores
    one = attention(policy, noise(), DISPLACEMENT, layer=1, head=2).scores
    assert mean.sum() == pytest.approx(found.mean((0, 1)).sum(), rel=1e-5)
    assert one.sum() == pytest.approx(found[1, 2].sum(), rel=1e-5)
    layers = attention_by_layer(policy, noise())
    assert layers.mean(0) == pytest.approx(mean)
    assert layers[1] == pytest.approx(attention(policy, noise(), DISPLACEMENT, layer=1).scores)
    with pytest.raises(UserError, match="4 heads, so none is 4"):
        attention(policy, noise(), DISPLACEMENT, head=4)


def test_rollout_of_two_layers():
    # Both look from state 0 at state 1 only, and from state 1 at itself.
    layer = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    # Half is passed by: [[1/2, 1/2], [0, 1]], twice.
    np.testing.assert_allclose(rolled_out([layer, layer]), [[0.25, 0.75], [0, 1]])


@pytest.mark.parametrize("family", FAMILIES)
def test_grad_cam_at_any_layer(policies, family):
    policy = policies[family]
    count = len(vision_layers(policy))
    maps = [grad_cam(policy, noise(), GRIPPER, layer=layer).scores for layer in range(count)]
    at_once = grad_cam_by_layer(policy, noise(), GRIPPER)
    np.testing.assert_allclose(at_once, maps, rtol=1e-6)
    assert all((one >= 0).all() for one in maps)
    assert not np.allclose(maps[0], maps[-1])
    np.testing.assert_array_equal(grad_cam(policy, noise(), GRIPPER).scores, maps[-1])
    with pytest.raises(UserError, match=f"{count} layers, so none is {count}"):
        grad_cam(policy, noise(), GRIPPER, layer=count)
    with pytest.raises(UserError, match="no slope"):
        grad_cam(policy, noise(), AGREEMENT)


def test_a_frozen_policy_is_explained_alike(policies):
    policy = policies["paligemma"]
    learning = grad_cam(policy, noise(), GRIPPER).scores
    policy.requires_grad_(False)
    np.testing.assert_allclose(grad_cam(policy, noise(), GRIPPER).scores, learning)
    policy.requires_grad_(True)


def test_patches_lie_where_their_pixels_are(policies):
    policy = policies["qwen3-vl"]
    assert patches_a_side(policy) == 8
    # Something that stands before the patches is left out.
    scores = patch_grid(policy, torch.arange(65.0))
    np.testing.assert_array_equal(scores.ravel(), np.arange(1, 65))
    vision = policy.base.config.vision_config
    vision.spatial_merge_size = 2
    blocks = patch_grid(policy, torch.arange(64.0))
    vision.spatial_merge_size = 1
    # Four neighbours follow each other: the upper left block is 0 to 3, the next one 4 to 7.
    np.testing.assert_array_equal(blocks[:2, :4], [[0, 1, 4, 5], [2, 3, 6, 7]])
    with pytest.raises(UserError, match="5 states for 64 patches"):
        patch_grid(policy, torch.zeros(5))


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2.5-vl"])
def test_what_a_tower_has_of_a_patch_is_drawn_where_the_patch_is(family):
    policy = Policy.from_vlm(f"{family}:tiny", device="cpu", dtype=torch.float32).eval()
    side, seen = patches_a_side(policy), []
    width = 128 // side
    hook = next(iter(vision_layers(policy).values())).register_forward_pre_hook(
        lambda module, given: seen.append(given[0].detach())
    )
    grey = np.full((1, 128, 128, 3), 128, np.uint8)
    policy.encode(grey)
    places = [(0, 0), (0, side - 1), (3, 4), (side - 2, 1)]
    for row, column in places:
        picture = grey.copy()
        picture[:, row * width : (row + 1) * width, column * width : (column + 1) * width] = 255
        policy.encode(picture)
    hook.remove()
    for (row, column), states in zip(places, seen[1:], strict=True):
        drawn = patch_grid(policy, (states - seen[0]).norm(dim=-1))
        cell = len(drawn) / side
        found = np.unravel_index(drawn.argmax(), drawn.shape)
        assert [int(at // cell) for at in found] == [row, column]
