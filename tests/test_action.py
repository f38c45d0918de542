import dataclasses
import json

import numpy as np
import pytest

from vlm4vla import action
from vlm4vla.errors import UserError

BRIDGE_Q01 = (-0.0287, -0.0417, -0.0261, -0.0809, -0.0929, -0.2072)
BRIDGE_Q99 = (0.0283, 0.0409, 0.0402, 0.0819, 0.0779, 0.2038)


def test_tiny_divides_by_the_caps():
    spec = action.tiny(caps=(0.3, 0.3, 0.2, 0, 0, 0))
    arm, gripper = spec.normalise([[0.15, -0.3, 0.1, 0.4, 0, 0, 1], [0, 0, -0.9, 0, 0, 0, -1]])
    np.testing.assert_allclose(arm, [[0.5, -1, 0.5, 0, 0, 0], [0, 0, -1, 0, 0, 0]], atol=1e-6)
    assert gripper.tolist() == [1, 0]


def test_tiny_commands_no_motion_where_nothing_moves():
    back = action.tiny().unnormalise(np.ones((2, 4, 6)), np.array([[1, -1, 2, -0.1]] * 2))
    assert back.shape == (2, 4, 7)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[0, 0], [0.6, 0.6, 0.6, 0, 0, 0, 1], atol=1e-6)
    assert back[0, :, 6].tolist() == [1, -1, 1, -1]


def test_paper_scales_by_quantiles_then_clips_at_065():
    # Halfway from the middle to q99 is 0.5, and 0.5 / 0.65 = 0.76923; q99 itself is clipped to 1.
    middle = (np.array(BRIDGE_Q01) + BRIDGE_Q99) / 2
    half = (np.array(BRIDGE_Q99) - BRIDGE_Q01) / 2
    spec = action.paper(BRIDGE_Q01, BRIDGE_Q99, "Bridge")
    arm, _ = spec.normalise(np.r_[middle + 0.5 * half, 1])
    np.testing.assert_allclose(arm, [0.769231] * 6, atol=1e-5)
    assert spec.normalise(np.r_[BRIDGE_Q99, 1]).arm.tolist() == [1] * 6
    # The largest command is 65 % of the half range: the paper's policies can never exceed it.
    np.testing.assert_allclose(
        spec.unnormalise(np.ones(6), 1.0)[:6], middle + 0.65 * half, rtol=1e-5
    )


@pytest.mark.parametrize("spec", [action.tiny(), action.paper(BRIDGE_Q01, BRIDGE_Q99, "Bridge")])
def test_unnormalise_inverts_normalise(spec):
    low, high = np.array(spec.low), np.array(spec.high)
    share = np.linspace(-0.6, 0.6, 5)[:, None]
    arm = np.where(spec.moves, (low + high) / 2 + share * (high - low) / 2, 0)
    actions = np.c_[arm, [1, -1, 1, -1, 1]].astype(np.float32)
    targets = spec.normalise(actions)
    back = spec.unnormalise(targets.arm, targets.gripper * 2 - 1)
    np.testing.assert_allclose(back, actions, atol=1e-6)


def test_gripper_convention_may_be_inverted():
    spec = action.paper(BRIDGE_Q01, BRIDGE_Q99, "LIBERO", gripper_open=-1, gripper_closed=1)
    assert spec.normalise([0.0] * 6 + [-1]).gripper == 1
    assert spec.unnormalise([0.0] * 6, 3.0)[6] == -1


def test_a_dimension_whose_quantiles_are_equal_never_moves():
    q01, q99 = list(BRIDGE_Q01), list(BRIDGE_Q99)
    q01[4] = q99[4] = 0.25
    spec = action.paper(q01, q99, "a data set without pitch")
    assert spec.moves == (True, True, True, True, False, True)
    assert spec.normalise([0.0, 0, 0, 0, 0.25, 0, 1]).arm[4] == 0
    assert spec.unnormalise([1.0] * 6, 1.0)[4] == 0.25
    untouched = action.paper(BRIDGE_Q01, BRIDGE_Q99, "Bridge")
    assert spec.unnormalise([1.0] * 6, 1.0)[0] == untouched.unnormalise([1.0] * 6, 1.0)[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_action_is_made_of_a_prediction_that_is_not_finite(value):
    for arm, gripper in (([value, 0, 0, 0, 0, 0], 1.0), ([0.0] * 6, value)):
        with pytest.raises(UserError, match="not finite"):
            action.tiny().unnormalise(arm, gripper)


def test_json_round_trip_and_hash():
    spec = action.paper(BRIDGE_Q01, BRIDGE_Q99, "Bridge")
    again = action.ActionSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.hash == spec.hash
    assert len(spec.hash) == 16
    changed = dataclasses.replace(spec, clip=0.66)
    assert changed.hash != spec.hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low": (1.0,) * 6}, "low >= high"),
        ({"clip": 0.0}, "clip"),
        ({"execute": 5}, "executes"),
        ({"gripper_open": -1.0}, "open from closed"),
        ({"units": ("m",)}, "7 units"),
        ({"high": (float("nan"),) * 6}, "finite"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(action.tiny(), **change)


@pytest.mark.parametrize("broken", [{"surprise": 1}, {"dimensions": ["x"]}, {"low": 3.0}])
def test_broken_json_is_refused(broken):
    with pytest.raises(UserError):
        action.ActionSpec.from_json(action.tiny().to_json() | broken)


@pytest.mark.parametrize("actions", [np.zeros(6), np.full(7, np.nan), 3.0])
def test_actions_of_another_kind_are_refused(actions):
    with pytest.raises(UserError, match="finite"):
        action.tiny().normalise(actions)


def test_quantiles_that_are_equal_in_float32_give_no_scale():
    low = [1.0, 0.0, -1.0, -1.0, -1.0, -1.0]
    spec = action.paper(low, [1.0 + 1e-12, *[1.0] * 5], "s")
    assert spec.moves == (False, True, True, True, True, True)
    targets = spec.normalise([1.0, 0.5, 0, 0, 0, 0, 1])
    assert np.isfinite(targets.arm).all() and targets.arm[0] == 0
    assert spec.unnormalise(targets.arm, 1.0)[0] == 1.0


def test_quantiles_may_come_as_arrays():
    spec = action.paper(-np.ones(6), np.array([1, 1, 1, 1, 1, -1.0]), "s")
    assert spec.moves == (True, True, True, True, True, False)
    assert action.ActionSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        ([-1.0] * 5, [1.0] * 5, r"six and six numbers, not \(5,\) and \(5,\)"),
        ([-1.0] * 6, None, "not|no numbers"),
        (["a"] * 6, [1.0] * 6, "no numbers"),
        ([np.nan] * 6, [1.0] * 6, "not finite"),
        ([-1e300] * 6, [1e300] * 6, "not finite"),
        ([-3e38] * 6, [3e38] * 6, "ends too far apart"),
        ([1.0] * 6, [-1.0] * 6, "low >= high"),
    ],
)
def test_quantiles_that_are_none_are_refused(low, high, words):
    with pytest.raises(UserError, match=words):
        action.paper(low, high, "s")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"moves": [1] * 6}, "which numbers move"),
        ({"moves": [None] * 6}, "which numbers move"),
        ({"units": [1] * 7}, "no text"),
        ({"units": "abcdefg"}, "needs 7 units"),
        ({"name": None}, "no text"),
        ({"chunk": True, "execute": True}, "not whole"),
        ({"chunk": "4"}, "not whole"),
        ({"low": [-(10**400)] * 6}, "wrong type"),
    ],
)
def test_values_of_another_kind_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        action.ActionSpec.from_json(action.tiny().to_json() | change)


@pytest.mark.parametrize(
    ("arm", "gripper"), [(["a"] * 6, 0), (np.zeros((2, 5)), [0, 0]), (np.zeros((2, 6)), [0] * 3)]
)
def test_predictions_of_another_shape_are_refused(arm, gripper):
    with pytest.raises(UserError, match=r"no numbers|\(\.\.\., 6\) and"):
        action.tiny().unnormalise(arm, gripper)


def test_another_scaling_means_the_same_and_another_unit_does_not():
    suite = action.tiny()
    action.tiny([0.3] * 6, chunk=10, execute=2).check_means(suite, "it")
    data = action.paper(BRIDGE_Q01, BRIDGE_Q99, "Bridge")
    with pytest.raises(UserError, match=r"actions of it have another meaning here: units is data"):
        data.check_means(suite, "it")
