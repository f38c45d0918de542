"""What is batched by hand gives what captum gives one at a time."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, InputXGradient, LayerGradCam
from captum.metrics import infidelity as captum_infidelity
from torch import nn

from tests.attribution.toys import Toy, noise, small
from vlm4vla.attribution.faithfulness import infidelity, random_drops
from vlm4vla.attribution.grad_cam import class_activation
from vlm4vla.attribution.inputs import Question, covered
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.score import intact, picture_values
from vlm4vla.attribution.target import DISPLACEMENT, GRIPPER


def of_cells(policy, asked, target):
    """The value as a function of which cells are seen, (N, 64) of 0 and 1."""

    def value(seen):
        pictures = covered(asked.picture, ~seen.bool().numpy())
        return torch.as_tensor(picture_values(policy, asked, target, pictures))

    return value


def patchwork():
    """A question about a picture whose cells differ in brightness."""
    bright = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    return Question(np.broadcast_to(bright, (8, 8, 3)).repeat(16, 0).repeat(16, 1), "go")


def test_occlusion_is_captums_feature_ablation():
    policy, asked = Toy(lambda red: red[:, 3] * red[:, 40] + red.var(1)), patchwork()
    own = FeatureAblation(of_cells(policy, asked, DISPLACEMENT)).attribute(torch.ones(1, 64))
    found = occlusion(policy, asked, DISPLACEMENT).scores
    assert np.count_nonzero(found) > 60
    np.testing.assert_allclose(found.ravel(), own[0], atol=1e-9)


@pytest.mark.parametrize("family", ["qwen3-vl", "internvl"])
def test_occlusion_inside_a_vlm_is_captums_one_cell_at_a_time(family):
    policy, asked = small(family), noise()
    before = intact(policy, asked)

    def value(seen):
        pictures = covered(asked.picture, ~seen.bool().numpy())
        found = policy.predict(policy.encode(pictures), policy.prompt([asked.instruction]))
        return DISPLACEMENT.of(found, before, policy.spec)

    with torch.no_grad():
        own = FeatureAblation(value).attribute(torch.ones(1, 64))[0].numpy()
    found = occlusion(policy, asked, DISPLACEMENT).scores.ravel()
    assert np.abs(own).max() > 1e-3
    np.testing.assert_allclose(found, own, atol=2e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_infidelity_is_captums(sign):
    # Red of two cells multiplied: no map of single cells foretells it wholly.
    policy = Toy(lambda red: red[:, 3] * red[:, 40] + red[:, 5] / 3)
    asked = patchwork()
    scores = sign * occlusion(policy, asked, DISPLACEMENT).scores
    drops = random_drops(policy, asked, seed=119)
    assert (drops.masks.sum(1) == 8).all() and len(drops.masks) == 32
    # Only where both cells are covered can the map be wrong.
    assert (drops.masks[:, 3] & drops.masks[:, 40]).sum() >= 3
    masks = torch.as_tensor(drops.masks).double()
    told = captum_infidelity(
        of_cells(policy, asked, DISPLACEMENT),
        lambda inputs: (masks, inputs - masks),
        torch.ones(1, 64, dtype=torch.float64),
        torch.as_tensor(scores.reshape(1, 64)),
        n_perturb_samples=32,
        normalize=True,
    )
    whole = of_cells(policy, asked, DISPLACEMENT)(torch.ones(1, 64))
    dropped = whole - of_cells(policy, asked, DISPLACEMENT)(1 - masks)
    share = float(told / (dropped**2).mean())
    found = infidelity(policy, DISPLACEMENT, scores, drops)
    # Captum also turns a map round that points the wrong way; here that foretells nothing.
    assert found == pytest.approx(share if sign > 0 else 1, rel=1e-6)
    assert 0.01 < share < 0.9


def test_infidelity_of_what_is_linear():
    policy = Toy(lambda red: red[:, 3] / 4 - red[:, 40] / 3)
    scores = occlusion(policy, patchwork(), DISPLACEMENT).scores
    drops = random_drops(policy, patchwork(), seed=0, count=40)
    assert infidelity(policy, DISPLACEMENT, 7 * scores, drops) == pytest.approx(0, abs=1e-9)
    assert infidelity(policy, DISPLACEMENT, np.zeros((8, 8)), drops) == 1
    assert np.isnan(infidelity(policy, GRIPPER, scores, drops))


def test_class_activation_is_captums():
    torch.manual_seed(0)
    layer, head = nn.Linear(5, 4), nn.Linear(4, 1)

    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.turn, self.head = layer, nn.Identity(), head

        def forward(self, x):
            # Captum takes the second axis for the channels, as in a picture.
            states = self.turn(torch.tanh(self.layer(x)).transpose(1, 2)).transpose(1, 2)
            return self.head(states**2).sum((1, 2))

    tower, x = Tower(), torch.randn(1, 9, 5)
    own = LayerGradCam(tower, tower.turn).attribute(x, relu_attributions=True)
    states = torch.tanh(layer(x)).detach().requires_grad_()
    [slopes] = torch.autograd.grad(head(states**2).sum(), states)
    torch.testing.assert_close(class_activation(states[0], slopes[0]), own[0, 0].detach())
    assert own.count_nonzero() > 0


def test_gradient_times_input_takes_every_level_of_the_features():
    from vlm4vla.attribution.gradient import gradient_times_input

    policy, asked = small("qwen3-vl"), noise()
    features = policy.encode(asked.picture[None])
    levels = [features.tokens, *features.deepstack]
    assert len(levels) == 3
    rows = policy.prompt([asked.instruction])
    changes = []
    for index in range(3):

        def value(level, index=index):
            mixed = [level if i == index else one.detach() for i, one in enumerate(levels)]
            given = type(features)(mixed[0], tuple(mixed[1:]), features.output)
            return policy.predict(given, rows).gripper[:, 0]

        leaf = levels[index].detach().requires_grad_()
        changes.append(InputXGradient(value).attribute(leaf).sum(-1)[0].detach())
    found = gradient_times_input(policy, asked, GRIPPER).scores.ravel()
    np.testing.assert_allclose(found, sum(changes), atol=1e-5)
