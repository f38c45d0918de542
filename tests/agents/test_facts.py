import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.facts import Facts, Skill, facts, share, size
from vlm4vla.model.size import stored_parameters
from vlm4vla.statistics import wilson


def folder(path: Path, **files: Any) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (path / f"{name}.json").write_text(text)
    return path


def stage(name: str, steps: int, **figures: float) -> dict[str, Any]:
    return {"stage": name, "recipe": {"loop": {"steps": steps}}, "figures": figures}


def test_a_policy_says_its_family_size_training_skill_and_success(tmp_path: Path) -> None:
    tasks = {"pick": {"successes": 9, "n": 10}, "stack": {"successes": 4, "n": 10}}
    found = facts(
        folder(
            tmp_path / "a",
            policy={
                "family": "internvl",
                "parameters": {"vision": {"parameters": 1000}, "head": {"parameters": 24}},
                "evaluation": {"tasks": tasks, "alternate": {"tasks": {"pick": {}}}},
            },
            training=[
                stage("language", 300, colour=0.2),
                stage("language", 200, colour=0.75, pointing_cells=1.0),
                stage("grounding", 1000),
                stage("imitation", 4500),
            ],
        )
    )
    assert found == Facts(
        family="internvl",
        policy=True,
        parameters=1024,
        trained_on="drawn pictures with questions (500 steps), robot frames (5,500 steps)",
        skill={"colour": Skill(0.75, 0)},
        success={"pick": wilson(9, 10), "stack": wilson(4, 10)},
    )
    assert found.overall == wilson(13, 20)
    # Wilson's interval of 13 of 20, worked out with a calculator: 0.4329 to 0.8188.
    assert share(wilson(13, 20)) == "13 of 20 (95 % 43 to 82 %)"


@pytest.mark.parametrize(
    ("sentences", "told"), [("held out", True), ("broad", False), ("of training", False)]
)
def test_success_is_that_on_known_sentences(tmp_path: Path, sentences: str, told: bool) -> None:
    evaluation = {"tasks": {"pick": {"successes": 9, "n": 10}}, "sentences": sentences}
    found = facts(folder(tmp_path / "a", policy={"evaluation": evaluation}))
    assert (found.overall is not None) == told


def test_a_vlm_that_was_stopped_says_how_far_it_came(tmp_path: Path) -> None:
    found = facts(
        folder(
            tmp_path / "a",
            metrics={
                "skill": {"colour": 0.5, "first": 0.1},
                "asked": {"colour": 40},
                "steps": 77,
                "recipe": {"family": "paligemma"},
            },
            training=[stage("language", 100, colour=0.4)],
        )
    )
    assert (found.family, found.policy, found.overall) == ("paligemma", False, None)
    assert found.trained_on == "drawn pictures with questions (77 steps)"
    assert found.skill == {"colour": Skill(0.5, 40)}


def test_a_stage_that_was_stopped_counts_the_steps_it_made(tmp_path: Path) -> None:
    stages = [stage("imitation", 100), stage("imitation", 100, stopped_at_step=40.0)]
    found = facts(folder(tmp_path / "a", training=stages))
    assert found.trained_on == "robot frames (140 steps)"


@pytest.mark.parametrize("content", ["", "[", "[]", "3", "null", '{"tasks": 3}', "[[], 3]"])
def test_what_is_damaged_counts_as_not_said(tmp_path: Path, content: str) -> None:
    bare = folder(tmp_path / "a", policy=content, metrics=content, training=content)
    assert facts(bare) == Facts(policy=True)
    odd = {
        "family": None,
        "parameters": [1],
        "evaluation": {"tasks": {"a": {"n": 0, "successes": 0}, "b": {"n": 1, "successes": 2}}},
    }
    (bare / "policy.json").write_text(json.dumps(odd))
    assert facts(bare) == Facts(policy=True)
    assert facts(tmp_path / "nothing") == Facts()


@pytest.mark.parametrize(
    ("number", "told"),
    [(999, "999"), (1_000, "1.0 k"), (6_990_092, "7.0 M"), (2_130_000_000, "2.1 B")],
)
def test_a_size_is_told_in_three_figures(number: int, told: str) -> None:
    assert size(number) == told


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    assert stored_parameters(tmp_path) is None
    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5)}, tmp_path / "x.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "y.safetensors")
    assert stored_parameters(tmp_path) == 18
    (tmp_path / "y.safetensors").write_bytes(b"version https://git-lfs")
    assert stored_parameters(tmp_path) is None


def test_the_app_begins_with_the_published_checkpoint_and_the_expert_is_last(
    tmp_path: Path,
) -> None:
    for name in ("internvl-tiny", "qwen3vl-broad-tiny", "zebra"):
        folder(tmp_path / name, policy={"family": name})
    catalogue = AgentCatalogue(roots=[tmp_path])
    assert catalogue.names() == ["qwen3vl-broad-tiny", "internvl-tiny", "zebra", "expert"]
    assert catalogue.facts("zebra").family == "zebra"
    assert catalogue.facts("expert") == Facts()
