"""From features and prompts to actions, and what may be done to features on the way."""

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy

WORDS = ["pick up the red cube", "push it"]


@pytest.fixture(params=sorted(FAMILIES))
def adapted(request, small):
    return Policy(small(request.param), action.tiny(), query_init="embedding").eval()


def test_the_parts_are_the_whole(adapted, pictures):
    with torch.inference_mode():
        parts = adapted.predict(adapted.encode(pictures[:2]), adapted.prompt(WORDS))
    chunk = adapted.spec.unnormalise(parts.arm.numpy(), parts.gripper.numpy())
    np.testing.assert_array_equal(adapted.act(pictures[:2], WORDS), chunk)


def test_gradients_flow_into_every_token(adapted, pictures):
    features = adapted.encode(pictures[:2]).map(lambda t: t.detach().requires_grad_())
    adapted.predict(features, adapted.prompt(WORDS)).arm[0].sin().sum().backward()
    assert features.tokens.grad[0].abs().sum(-1).all()
    for level in (features.tokens, *features.deepstack):
        assert level.shape == (2, adapted.vlm.image_tokens, adapted.vlm.width)
        assert not level.grad[1].any()
    adapted.zero_grad()


def test_gradients_are_the_slopes_of_the_prediction(policy, pictures):
    # Features have a deviation of 0.015: a step of 2 % of it is small, yet above float32's noise.
    features = policy.encode(pictures[:1]).map(lambda t: t.detach().requires_grad_())
    rows = policy.prompt(WORDS[:1])
    policy.predict(features, rows).arm[0, 0, 0].backward()
    # Along the gradient, since across it the slope can be as small as the rounding.
    gradient = sum(t.grad[0, 20] for t in (features.tokens, *features.deepstack))
    direction = gradient / gradient.norm() * policy.vlm.width**0.5
    expected = float(gradient @ direction)
    policy.zero_grad()
    step = 3e-4

    def moved(by):
        def change(tokens):
            tokens = tokens.detach().clone()
            tokens[0, 20] += by * direction
            return tokens

        with torch.no_grad():
            return float(policy.predict(features.map(change), rows).arm[0, 0, 0])

    assert (moved(step) - moved(-step)) / (2 * step) == pytest.approx(expected, rel=0.05)


def test_an_occluded_token_is_gone_everywhere(policy, pictures):
    # Two pictures that differ in one patch: without that patch's token they are the same, as the
    # language model sees them, when their other tokens are made the same.
    features = policy.encode(pictures[:2])
    keep = torch.ones(2, policy.vlm.image_tokens)
    keep[:, 21] = 0
    assert len(features.deepstack) == 2

    def occluded(tokens):
        other = tokens[:1].expand(2, -1, -1).clone()
        other[1, 21] = tokens[1, 21]
        return other * keep[..., None]

    with torch.no_grad():
        first, second = policy.predict(features.map(occluded), policy.prompt(["go", "go"])).arm
        plain = policy.predict(features, policy.prompt(["go", "go"])).arm[0]
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    assert (first - plain).abs().max() > 1e-5


def test_features_keep_the_vlms_own_output(policy, pictures):
    features = policy.encode(pictures[:2])
    own = policy.base.get_image_features
    assert own.__func__ is type(policy.base).get_image_features
    again = features._as_returned()
    for mine, theirs in zip(again.pooler_output, features.output.pooler_output, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(
        again.deepstack_features, features.output.deepstack_features, strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_deepstack_levels_are_never_left_out(policy, pictures):
    features, rows = policy.encode(pictures[:1]), policy.prompt(["go"])

    class Older(torch.nn.Module):
        """A VLM's forward before it took features."""

        def forward(self, input_ids=None, inputs_embeds=None):
            raise AssertionError("never called")

    assert features.deepstack
    with pytest.raises(UserError, match=r"Older .* takes no deepstack features"):
        features.arguments(Older(), rows.ids, rows.is_image)


def test_features_that_do_not_fit_the_rows_are_refused(adapted, pictures):
    features, rows = adapted.encode(pictures[:2]), adapted.prompt(["go"] * 3)
    with pytest.raises(UserError, match=r"2 pictures of .* do not fit 3 rows"):
        adapted.predict(features, rows)
    fewer = features.map(lambda tokens: tokens[:, 1:])
    with pytest.raises(UserError, match=r"do not fit"):
        adapted.predict(fewer, rows, torch.tensor([0, 1, 1]))


@pytest.mark.parametrize("index", [[0, 1], [0, -1], [0.0, 0.0], [True, False], [0], [[0, 0]]])
def test_each_row_names_a_picture_that_is_there(policy, pictures, index):
    with pytest.raises(UserError, match="image_index must name one of 1 pictures, from 0 on"):
        policy(pictures[:1], ["go", "stop"], torch.tensor(index))
