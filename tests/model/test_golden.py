"""Hidden states of every family on fixed weights and inputs.

A release of transformers that silently moves positions, masks or image tokens fails here, and the
test names the family. After a change that is meant, `python tests/model/test_golden.py` writes the
values again.
"""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vlm4vla import action
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import make_tiny

FILE = Path(__file__).parent / "golden" / "hidden_states.json"
NAMES = sorted(FAMILIES)
TOLERANCE = 2e-3
SMALL = {"vision_layers": 3, "vision_width": 64, "language_layers": 2, "language_width": 64}
SIZES = {"qwen3-vl": SMALL | {"heads": 4}}
SHOWN = 6


def noise(name, shape):
    """Numbers in -1..1 from a hash of the name and the place: no random generator is asked."""
    place = np.arange(np.prod(shape), dtype=np.uint64) + (
        np.uint64(zlib.crc32(name.encode())) << 32
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        place = (place ^ (place >> np.uint64(shift))) * np.uint64(factor)
    return torch.from_numpy((place >> np.uint64(11)) / 2.0**52 - 1).view(shape)


def fill(module):
    """Gives every parameter a value from its name; norms stay near the one or zero they are."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = noise(name, tuple(parameter.shape))
            if parameter.ndim < 2:
                value = 0.1 * value + float((parameter == 1).all())
            else:
                value = value * 2.0 / parameter[0].numel() ** 0.5
            parameter.copy_(value)


def measure(name, change=lambda family: family):
    """A few numbers that depend on every mask, position and image token."""
    # No merges are learned from nothing, so the token ids are bytes.
    vlm = make_tiny((), name, vocabulary=0, **SIZES.get(name, {}))
    vlm.family = change(vlm.family)
    policy = Policy(vlm, action.tiny()).eval()
    fill(policy)
    side = vlm.family.side(vlm.base.config)
    y, x, c, k = np.mgrid[:side, :side, :3, :2]
    pictures = np.uint8((x * (3 + k) + y * (5 + c) + 40 * c) % 256).transpose(3, 0, 1, 2)
    rows = policy.rows([vlm.family.text(text) for text in ("go", "pick up the red cube")])
    with torch.no_grad():
        features = policy.encode(pictures)
        states = policy.states(features, rows)
    query = policy.at_query(states, rows)
    return {
        "tokens": rows.attention.sum(1).tolist(),
        "features": features.tokens[1, -1, :SHOWN].tolist(),
        "query": query[:, :SHOWN].tolist(),
    }


def difference(found, golden):
    assert found["tokens"] == golden["tokens"]
    return max(np.abs(np.subtract(found[k], golden[k])).max() for k in ("features", "query"))


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text())


def test_every_family_has_golden_values(golden):
    assert sorted(golden) == NAMES
    assert FILE.stat().st_size < 20_000


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_are_the_golden_ones(name, golden):
    assert difference(measure(name), golden[name]) < TOLERANCE


def _without(key):
    def change(family):
        return replace(family, inputs=lambda rows, config: _zero(family.inputs(rows, config), key))

    return change


def _zero(inputs, key):
    return inputs | {key: torch.zeros_like(inputs[key])}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("qwen2.5-vl", "position_ids"),
        ("qwen3-vl", "position_ids"),
        ("qwen3-vl-moe", "position_ids"),
        ("gemma3", "token_type_ids"),
        ("paligemma", "token_type_ids"),
    ],
)
def test_golden_values_notice_moved_positions_and_masks(name, key, golden):
    assert difference(measure(name, _without(key)), golden[name]) > 5 * TOLERANCE


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    values = {
        name: {
            key: np.round(value, 5).tolist() if key != "tokens" else value
            for key, value in measure(name).items()
        }
        for name in NAMES
    }
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items())
    FILE.write_text("{\n" + lines + "\n}\n")
