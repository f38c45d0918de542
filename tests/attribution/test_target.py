import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.attribution.target import (
    AGREEMENT,
    DIRECTION,
    DISPLACEMENT,
    GRIPPER,
    LENGTH,
    commands,
    dimension,
)
from vlm4vla.errors import UserError
from vlm4vla.model.head import Prediction


def predicted(*first):
    """Rows whose first action has these normalised x, y, z, and whose logit is their sum."""
    xyz = torch.tensor(first)
    arm = torch.zeros(len(xyz), 4, 6)
    arm[:, 0, :3] = xyz
    return Prediction(arm, xyz.sum(1)[:, None].expand(-1, 4))


def test_values_are_millimetres_of_the_first_action():
    # 1.0 commands 0.6 of 0.1 m. The unchanged action goes 30 mm along x and 40 mm along y.
    before = predicted([0.5, 2 / 3, 0.0])
    others = predicted([0.5, 2 / 3, 0.0], [0.0, 0.0, 1.0], [-0.5, -2 / 3, 0.0], [1.0, 0.0, 0.0])
    spec = action.tiny()
    for target, expected in (
        (DISPLACEMENT, [50, 0, -50, 36]),
        (LENGTH, [50, 60, 50, 60]),
        # From (30, 40, 0): to (0, 0, 60), to (-30, -40, 0), to (60, 0, 0).
        (AGREEMENT, [0, -(6100**0.5), -100, -50]),
        # (0, 0, 60) stands across, (-30, -40, 0) points back; cos = 3/5 to (60, 0, 0).
        (DIRECTION, [0, -90, -180, -53.130102]),
        (GRIPPER, [7 / 6, 1, -7 / 6, 1]),
        (dimension("x", 0), [0.3, 0, -0.3, 0.6]),
        (dimension("x", 3), [0, 0, 0, 0]),
    ):
        found = target.of(others, before, spec)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=target.name)


@pytest.mark.parametrize(
    "spec",
    [action.tiny(), action.paper([-2, -1, 0, 1, 3, -1], [2, 1, 0.5, 2, 3, 1], "a data set")],
    ids=["tiny", "paper"],
)
def test_commands_are_those_that_are_carried_out(spec):
    arm = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    carried_out = spec.unnormalise(arm.numpy(), np.zeros((3, 4)))[..., :6]
    found = commands(Prediction(arm, torch.zeros(3, 4)), spec)
    np.testing.assert_allclose(found, carried_out, rtol=1e-5, atol=1e-6)


def test_what_has_no_length_is_refused():
    spec = action.paper([-1] * 6, [1] * 6, "a data set")
    one = predicted([1.0, 0.0, 0.0])
    with pytest.raises(UserError, match="no displacement in millimetres"):
        DISPLACEMENT.of(one, one, spec)
    with pytest.raises(UserError, match="Unknown dimension"):
        dimension("w", 0)
    with pytest.raises(UserError, match="4 actions has no step 4"):
        dimension("x", 4).of(one, one, spec)
