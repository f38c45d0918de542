import importlib.util
from pathlib import Path

import pytest
import torch

from vlm4vla import action
from vlm4vla.errors import UserError
from vlm4vla.model.conformance import probe
from vlm4vla.model.family import FAMILIES, family_of
from vlm4vla.model.groups import group_of
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy

MADE_UP = Path(__file__).parent / "made_up_family.py"
NAMES = [
    "florence-2",
    "gemma3",
    "internvl",
    "kosmos-2",
    "llava-onevision",
    "paligemma",
    "paligemma2",
    "qwen2.5-vl",
    "qwen3-vl",
    "qwen3-vl-moe",
    "smolvlm",
]


def test_the_eleven_families_are_registered():
    assert sorted(FAMILIES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_family_conforms(name, small):
    report = probe(small(name))
    assert [check for check in report.checks if not check.passed] == []
    assert len(report.checks) == 11


@pytest.mark.parametrize("name", ["qwen2.5-vl", "paligemma2", "kosmos-2"])
def test_family_conforms_in_bfloat16(name):
    vlm = load_vlm(f"{name}:tiny", dtype=torch.bfloat16, device="cpu")
    report = probe(vlm)
    assert report.parts["dtype"] == "bfloat16"
    assert [check for check in report.checks if not check.passed] == []


@pytest.mark.parametrize("name", NAMES)
def test_config_is_recognised_again(name, small):
    vlm = small(name)
    assert family_of(vlm.base.config) is vlm.family
    assert type(vlm.base).__module__.startswith("transformers.models.")


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        # Paper section "Images": 448 / 14 / 2 = 16, 448 / 16 / 2 = 14, 224 / 14 = 16 to a side.
        ("qwen2.5-vl", 256),
        ("qwen3-vl", 196),
        ("qwen3-vl-moe", 196),
        ("paligemma", 256),
        ("paligemma2", 256),
        ("internvl", 256),
        ("kosmos-2", 64),
        ("gemma3", 256),
    ],
)
def test_released_sizes_give_the_papers_token_counts(name, tokens, small):
    from transformers import AutoConfig

    family = FAMILIES.get(name)
    vision = {"patch_size": 14, "image_size": 224}
    if name == "internvl":
        vision["image_size"] = 448
    kinds = {"paligemma2": {"text_config": {"model_type": "gemma2"}}}
    kind = family.model_types[0]
    if name.startswith("qwen") or name in ("kosmos-2",):
        config = AutoConfig.for_model(kind)
    else:
        config = AutoConfig.for_model(kind, vision_config=vision, **kinds.get(name, {}))
    assert family.image_tokens(config) == tokens


def test_training_preset_stays_within_six_million():
    vlm = load_vlm("qwen3-vl:tiny", device="cpu")
    assert sum(p.numel() for p in vlm.base.parameters()) <= 6_000_000
    assert vlm.image_tokens == 64
    assert vlm.family.side(vlm.base.config) == 128


def test_a_made_up_family_takes_one_short_file(families, pictures):
    assert len(MADE_UP.read_text().splitlines()) < 60
    spec = importlib.util.spec_from_file_location("made_up_family", MADE_UP)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    vlm = load_vlm("made-up:tiny", device="cpu")
    assert [c for c in probe(vlm).checks if not c.passed] == []
    assert Policy.from_vlm(vlm, action.tiny()).act(pictures[:1], ["go"]).shape == (1, 4, 7)


def test_every_parameter_needs_a_group(small):
    vlm = small("paligemma")
    vlm.base.extra = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"'extra.weight' into no freeze group"):
        group_of(vlm.family, vlm.base)
