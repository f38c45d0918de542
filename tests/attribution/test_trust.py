import numpy as np
import pytest
import torch

from tests.attribution.toys import CornerPolicy, noise, small
from vlm4vla.attribution.faithfulness import curves, curves_of_several
from vlm4vla.attribution.inferences import Inference, parting
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.randomised import ALL, CASCADE, HEAD, LANGUAGE, randomised
from vlm4vla.attribution.target import DISPLACEMENT, GRIPPER
from vlm4vla.attribution.trust import all_maps, collapse, examine
from vlm4vla.attribution.trust_table import lines_of, mean_of, trust_table, verdict
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Pose
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP


@pytest.fixture(scope="module")
def planted():
    # Of a seed whose marker raises the value: the pointing game asks for the highest score.
    return small("qwen3-vl", CornerPolicy, seed=1)


def corner():
    """An inference whose named object is the upper left cell."""
    marker = np.zeros((128, 128), bool)
    marker[:16, :16] = True
    return Inference(
        spec=TABLETOP.spec("pick", 0, Condition("known")),
        step=0,
        pose=Pose(np.zeros(9, np.float32), np.zeros((0, 7), np.float32)),
        question=noise(),
        regions={"object": marker, "background": ~marker},
        things={},
        names=(),
    )


def test_a_policy_that_looks_at_a_corner_is_found_by_occlusion_and_the_table_says_who_misses_it(
    planted,
):
    told, _ = examine(planted, corner(), [DISPLACEMENT], seed=0)
    found = told["targets"]["displacement"]
    hits = {name for name, one in found.items() if one["points_at"]["object"]}
    # Only what covers pixels sees that the rest does not matter: tokens of every place hold the
    # marker after the tower's first layer, and attention does not say what comes of it.
    assert hits >= {"occlusion", "occlusion-grey", "occlusion-blur"}
    assert set(found) - hits >= {"gradient", "rollout", "attention"}
    for name in ("occlusion", "occlusion-grey", "occlusion-blur"):
        assert found[name]["mass"]["object"] == pytest.approx(1, abs=0.02)
        assert found[name]["infidelity"] < 0.5 < found["rollout"]["infidelity"]
        assert found[name]["deletion"] > 0 and found[name]["insertion"] > 0
    assert found["gradient"]["mass"]["object"] < 0.2
    assert told["cells"]["object"] == 1 / 64 and told["pixels"]["object"] == 1 / 64
    rows = trust_table([{**told, "when": "first", "collapse": {}}])
    missed = {row["method"] for row in rows if not row["points_at_object"]["successes"]}
    assert missed == set(found) - hits
    assert any("| rollout |" in line and "0 of 1" in line for line in lines_of(rows))


def test_maps_of_a_randomised_policy_are_compared_and_its_weights_are_back(planted):
    before = {name: one.clone() for name, one in planted.named_parameters()}
    maps, refused = all_maps(planted, noise(), [GRIPPER])
    assert refused == {}
    found = collapse(planted, noise(), [GRIPPER], maps, seed=1, levels=[HEAD])["gripper"]
    # A new head changes what comes of the picture, not what the towers attend to.
    assert found["rollout"][HEAD] == pytest.approx(1)
    assert found["gradient"][HEAD] < 0.9
    for name, one in planted.named_parameters():
        assert torch.equal(one, before[name]), name


def test_what_is_randomised_at_each_level(planted):
    before = {name: one.clone() for name, one in planted.named_parameters()}
    parts = {HEAD: {"head"}, LANGUAGE: {"head", "language_model"}}
    parts[ALL] = {"head", "language_model", "visual"}
    assert set(parts) == set(CASCADE)
    for level, expected in parts.items():
        with randomised(planted, level, seed=0):
            changed = {
                name.removeprefix("base.").split(".")[0]
                for name, one in planted.named_parameters()
                if not torch.equal(one, before[name])
            }
            words = planted.base.get_input_embeddings().weight.detach()
            kept = before["base.language_model.embed_tokens.weight"]
            if level != HEAD:
                assert torch.equal(words.flatten().sort().values, kept.flatten().sort().values)
        assert changed - {"query"} == expected
    with pytest.raises(RuntimeError), randomised(planted, ALL, seed=0):
        raise RuntimeError
    assert all(torch.equal(one, before[name]) for name, one in planted.named_parameters())
    with pytest.raises(UserError, match="Unknown level"), randomised(planted, "half"):
        pass


def test_curves_of_several_are_each_ones_own(planted):
    asked = [
        (target, occlusion(planted, noise(), target).scores * sign)
        for target, sign in ((DISPLACEMENT, 1), (GRIPPER, 1), (GRIPPER, -1))
    ]
    found = curves_of_several(planted, noise(), asked, seeds=[5, 6])
    for (target, scores), line in zip(asked, found, strict=True):
        one = curves(planted, noise(), target, scores, seeds=[5, 6])
        np.testing.assert_allclose(line.deletion, one.deletion, atol=1e-4)
        np.testing.assert_allclose(line.random_insertion, one.random_insertion, atol=1e-4)
    coarse = curves_of_several(planted, noise(), asked, seeds=[5], stride=8)
    assert coarse[0].deletion.shape == (9,)
    np.testing.assert_allclose(coarse[0].deletion, found[0].deletion[::2], atol=1e-4)


def test_policy_and_expert_part_where_they_are_furthest_apart():
    assert parting([90.0, 3.0, 40.0, 12.0]) == 2
    assert parting([90.0]) is None


def test_a_mean_with_its_interval():
    # Standard error 1 / sqrt(3), Student's t of two degrees of freedom 4.302653.
    found = mean_of([1.0, 2.0, 3.0, None, float("nan")])
    assert found == pytest.approx((3, 2, 2 - 2.484138, 2 + 2.484138), abs=1e-5)
    assert mean_of([4.0])[:2] == (1, 4.0) and np.isnan(mean_of([4.0]).low)
    assert mean_of([]).n == 0


def record(when, deletion, insertion, infidelity, collapse=0.1, method="occlusion", hit=True):
    """What is kept of an inference with one method."""
    measured = {
        "deletion": deletion,
        "insertion": insertion,
        "infidelity": infidelity,
        "mass": {"object": 0.25},
        "points_at": {"object": hit},
    }
    told = {
        "when": when,
        "targets": {"gripper": {method: measured}},
        "pixels": {"object": 0.015},
        "cells": {"object": 0.06},
        "agreement": {"gripper": {method: {"gradient": 0.5}}},
    }
    if when == "first" and collapse is not None:
        told["collapse"] = {"gripper": {method: {"all": collapse}}}
    return told


def test_the_table_counts_and_judges():
    records = [record("first", d, 5.0 + d, 0.2, hit=d > 1) for d in (1.0, 2.0, 3.0, 2.0)]
    records += [record("parting", d, 4.0 + d, 0.4) for d in (1.0, 2.0, 3.0)]
    first, later = trust_table(records)
    assert (first["when"], first["method"], first["n"]) == ("first", "occlusion", 4)
    assert first["deletion"]["mean"] == 2 and first["insertion"]["mean"] == 7
    assert first["points_at_object"]["successes"] == 3
    # Wilson's interval of 3 of 4.
    assert first["points_at_object"]["low"] == pytest.approx(0.3006, abs=1e-3)
    assert first["collapse"]["n"] == 4 and later["collapse"]["n"] == 0
    assert first["agreement"]["gradient"]["mean"] == 0.5
    assert first["mass"]["object"]["mean"] == 0.25
    # Three values 1, 2, 3: 2 - 2.48 is below chance.
    assert (first["against"], later["against"]) == ([], ["deletion not above random orders"])
    assert verdict([first, later]) == ["gripper: no method deserves trust by every measure."]
    assert verdict([first]) == ["gripper: trust occlusion."]


def test_a_map_that_outlives_its_weights_is_not_trusted():
    records = [record("first", d, d, 0.1, collapse=0.9) for d in (1.0, 1.1)]
    records += [record("first", d, d, 0.3, method="gradient") for d in (1.0, 1.1)]
    records += [record("first", d, d, 0.2, method="integrated") for d in (1.0, 1.1)]
    [told] = verdict(trust_table(records))
    assert told.startswith("gripper: trust integrated, gradient; occlusion beat random orders")
    unknown = trust_table([record("first", d, d, 0.1, collapse=None) for d in (1.0, 1.1)])
    assert unknown[0]["against"] == ["not shown to change with the weights"]
    assert "no method deserves trust" in verdict(unknown)[0]
    assert "not measured" in lines_of(unknown)[-1]
