"""The checkpoints that come with the repository."""

import json
from pathlib import Path

import numpy as np
import pytest

from vlm4vla.model.policy import Policy

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
PRETRAINED = sorted(path.parent for path in CHECKPOINTS.glob("vlm-init/*/config.json"))
GATED = ("colour", "pointing_cells")


def test_all_checkpoints_together_stay_under_150_megabytes() -> None:
    files = [file for file in CHECKPOINTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 150 * 2**20


def test_four_unlike_families_are_pretrained() -> None:
    families = {path.name for path in PRETRAINED}
    assert {"qwen3-vl", "internvl", "paligemma", "kosmos-2"} <= families


@pytest.mark.parametrize("folder", PRETRAINED, ids=lambda folder: folder.name)
def test_a_pretrained_vlm_becomes_a_policy_that_looks_and_reads(folder: Path) -> None:
    policy = Policy.from_vlm(folder, device="cpu")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    same = policy.query_state(policy.encode(images), ["lift the red cube"] * 2)
    other = policy.query_state(policy.encode(images), ["lift the red cube", "touch the blue ball"])
    assert not np.allclose(same[0].detach(), same[1].detach())
    assert not np.allclose(other[1].detach(), same[1].detach())


@pytest.mark.parametrize("folder", PRETRAINED, ids=lambda folder: folder.name)
def test_its_figures_say_of_how_many_questions_they_are(folder: Path) -> None:
    told = json.loads((folder / "metrics.json").read_text())
    assert set(told["skill"]) - {"steps"} == set(told["asked"])
    for skill in GATED:
        assert told["asked"][skill] >= 150
