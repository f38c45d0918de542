"""Shares on target, worked out by hand and of small policies."""

import numpy as np
import pytest

from tests.attribution.toys import noise, small
from vlm4vla.attribution.inferences import Inference
from vlm4vla.attribution.shares import METHODS, methods_for, share_on_object, shares_by_layer
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Pose
from vlm4vla.suites.registry import TABLETOP


def asked(seed: int, pixels: np.ndarray | None = None) -> Inference:
    """Noise in which the named object is the upper left cell, or some pixels."""
    if pixels is None:
        pixels = np.zeros((128, 128), bool)
        pixels[:16, :16] = True
    return Inference(
        spec=TABLETOP.spec("pick", seed, Condition()),
        step=0,
        pose=Pose(np.zeros(9, np.float32), np.zeros((0, 7), np.float32)),
        question=noise(),
        regions={"object": pixels},
        things={},
        names=(),
    )


def test_scenes_count_alike_and_empty_maps_do_not() -> None:
    object_ = asked(0).regions["object"]
    flat, there, none = np.ones((8, 8)), np.zeros((8, 8)), np.zeros((8, 8))
    there[0, 0] = -3.0
    maps = [(0, flat, object_), (0, there, object_), (1, flat, object_), (1, none, object_)]
    told, count = share_on_object(maps)
    # Of the first scene the mean of 1/64 and 1, of the second 1/64.
    first, second = (1 / 64 + 1) / 2, 1 / 64
    assert told.mean == pytest.approx((first + second) / 2)
    assert (told.n, count) == (2, 3)
    assert told.low < second < first < told.high
    nothing, count = share_on_object([(0, none, object_)])
    assert (nothing.n, count) == (0, 0)


@pytest.mark.parametrize("family", ["qwen3-vl", "internvl", "paligemma"])
def test_every_layer_of_a_policy_has_its_share(family: str) -> None:
    whole = np.ones((128, 128), bool)
    some = [asked(0, whole), asked(1, whole)]
    policy = small(family)
    found = [
        one
        for method in METHODS
        for one in shares_by_layer(policy, some, method, lambda line: None)
    ]
    layers: dict[str, list[str]] = {}
    for one in found:
        layers.setdefault(one.method, []).append(one.layer)
    assert layers["grad-cam"][0] == "vision 1" and layers["attention"][0] == "query 1"
    assert all(len(names) >= 2 for names in layers.values())
    # An object that fills the picture has all of every map.
    assert all(one.told.mean == pytest.approx(1) and one.told.n == 2 for one in found)


def test_it_says_how_far_it_is() -> None:
    said: list[str] = []
    many = [asked(seed) for seed in range(26)]
    shares_by_layer(small("qwen3-vl"), many, "grad-cam", said.append)
    assert said == ["grad-cam: 25 of 26 inferences", "grad-cam explained at 26 inferences"]


def test_a_vlm_has_no_action_to_explain_and_kosmos_no_map() -> None:
    assert methods_for(acts=True) == ["grad-cam", "attention"]
    assert methods_for(acts=False) == ["attention"]
    said: list[str] = []
    assert shares_by_layer(small("kosmos-2"), [asked(0)], "attention", said.append) == []
    assert "kosmos-2" in said[0]
