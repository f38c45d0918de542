import math

import pytest
import torch

from vlm4vla.model.head import ActionHead, Prediction, action_loss

MOVES = torch.ones(6, dtype=torch.bool)


def test_size_is_the_papers():
    # 2048 -> 1024 -> 1024, then twice 1024 -> 1024 -> 512 -> 256 -> outputs, weights and biases.
    trunk = 2048 * 1024 + 1024 + 1024 * 1024 + 1024
    branch = 1024 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 256 + 256
    outputs = 256 * 60 + 60 + 256 * 10 + 10
    head = ActionHead(2048, 10)
    assert sum(p.numel() for p in head.parameters()) == trunk + 2 * branch + outputs
    # With the query of 2048 numbers, the 6.58 million that the paper's code has.
    assert round((trunk + 2 * branch + outputs + 2048) / 1e6, 2) == 6.58


def test_shapes_and_ranges():
    arm, gripper = ActionHead(32, 4)(torch.randn(3, 32) * 50)
    assert arm.shape == (3, 4, 6)
    assert gripper.shape == (3, 4)
    assert arm.abs().max() <= 1


def test_trunk_ends_without_activation_and_biases_start_at_zero():
    head = ActionHead(32, 4)
    assert (head.trunk(torch.randn(8, 32)) < 0).any()
    assert all(not p.any() for name, p in head.named_parameters() if name.endswith("bias"))
    bound = math.sqrt(6 / (32 + 16))
    weight = head.trunk[0].weight
    assert weight.abs().max() <= bound
    assert weight.abs().max() > 0.9 * bound


def test_loss_by_hand():
    # Errors of 0.5 give 0.125 each; an error of 2 gives 2 - 0.5. BCE at logit 0 is log 2.
    arm = torch.zeros(1, 2, 6)
    arm[0, 0] = 0.5
    arm[0, 1] = 2.0
    prediction = Prediction(torch.zeros(1, 2, 6), torch.zeros(1, 2))
    gripper = torch.tensor([[1.0, 0.0]])
    both = action_loss(prediction, arm, gripper, torch.ones(1, 2), MOVES)
    assert both.item() == pytest.approx((0.125 + 1.5) / 2 + 0.01 * math.log(2), rel=1e-5)


def test_padding_weights_and_still_dimensions_do_not_count():
    prediction = Prediction(torch.zeros(1, 2, 6), torch.zeros(1, 2))
    arm = torch.zeros(1, 2, 6)
    arm[0, 0, 0] = 1.0
    arm[0, 0, 5] = 9.0
    arm[0, 1] = 7.0
    moves = torch.tensor([True, True, False, False, False, False])
    loss = action_loss(
        prediction, arm, torch.zeros(1, 2), torch.tensor([[2.0, 0.0]]), moves, gripper_weight=0
    )
    assert loss.item() == pytest.approx(0.5 / 2)


def test_no_valid_step_gives_no_loss():
    prediction = Prediction(torch.ones(1, 2, 6), torch.ones(1, 2))
    zero = torch.zeros(1, 2)
    assert action_loss(prediction, torch.zeros(1, 2, 6), zero, zero, MOVES).item() == 0
