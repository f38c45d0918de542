"""Features by layer of every shipped family: their shapes, and that no hook stays."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.conftest import make
from vlm4vla.action import tiny
from vlm4vla.model.policy import Policy
from vlm4vla.representations.layers import (
    Layer,
    blocks,
    features,
    pooled,
    squared,
    to_cells,
    watched,
)


@pytest.mark.parametrize("family", ["qwen3-vl", "internvl", "paligemma", "kosmos-2"])
def test_layers_have_cells_and_the_last_is_what_the_head_reads(family: str) -> None:
    policy = Policy(make(family), query_init="embedding", spec=tiny()).eval()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    asked = ["pick up the red cube", "push it", "put the blue ball on the green plate"]
    # At their first call some classes of transformers add hooks of their own, which stay.
    policy.act(pictures, asked)
    hooks = hooks_of(policy)
    found = features(policy, pictures, asked)
    assert hooks_of(policy) == hooks
    vision = len(blocks(policy.base, policy.vlm.family.vision))
    names = [layer.name for layer in found]
    assert names == [
        *(f"vision {number}" for number in range(vision + 1)),
        "projector",
        "picture 1",
        "picture 2",
        "query 1",
        "query 2",
        "query 3",
    ]
    assert {values.shape[1] for layer, values in found.items() if layer.part == "query"} == {1}
    assert {values.shape[1] for layer, values in found.items() if layer.part == "vision"} == {64}
    with torch.inference_mode():
        expected = policy.query_state(policy.encode(pictures), asked)
    last = found[list(found)[-1]][:, 0]
    np.testing.assert_allclose(last, expected.numpy(), atol=2e-2)
    # Another sentence changes what the language model makes, and nothing before it.
    other = features(policy, pictures, ["stack the red cube"] * 3)
    for layer, values in found.items():
        same = np.array_equal(values, other[layer])
        assert same == (layer.part in ("vision", "projector")) or layer.part == "picture"


def test_hooks_go_even_after_an_error() -> None:
    modules = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]

    def fails(number: int, output: torch.Tensor) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), watched(modules, fails):
        modules[0](torch.zeros(1, 2))
    assert [hooks_of(module) for module in modules] == [0, 0]


def test_a_finer_grid_is_averaged_and_a_class_token_left_out() -> None:
    fine = torch.arange(256.0).reshape(1, 16, 16, 1)
    with_class = torch.cat([torch.full((1, 1, 1), 1e6), fine.reshape(1, 256, 1)], 1)
    cells = to_cells(squared(with_class)).reshape(8, 8)
    assert cells[0, 0] == (0 + 1 + 16 + 17) / 4
    assert cells[7, 7] == (238 + 239 + 254 + 255) / 4


@pytest.mark.parametrize("name", ["qwen3-vl:tiny", "internvl:tiny"])
def test_a_cell_of_the_vision_tower_is_where_it_is_in_the_picture(name: str) -> None:
    policy = Policy.from_vlm(name)
    pictures = np.full((2, 128, 128, 3), 90, np.uint8)
    # Row 2, column 5 of eight.
    pictures[1, 32:48, 80:96] = 200
    seen = features(policy, pictures, ["reach the red cube"] * 2)
    before, after = seen[Layer("vision", 0)].astype(float)
    changed = np.abs(after - before).sum(-1)
    side = int(len(changed) ** 0.5)
    assert side == 8
    assert np.flatnonzero(changed > 0.1 * changed.max()).tolist() == [2 * side + 5]


def test_a_picture_is_its_mean_token() -> None:
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    policy: Any = SimpleNamespace(encode=lambda pictures: SimpleNamespace(tokens=tokens))
    found = pooled(policy, np.zeros((2, 8, 8, 3), np.uint8))
    assert found.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]


def hooks_of(module: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
