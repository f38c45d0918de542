import json
from pathlib import Path

import pytest
import yaml

from vlm4vla import action
from vlm4vla.model.card import card
from vlm4vla.model.checkpoint import checkpoint_hash

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "qwen3vl-tiny"


def manifest(**changes):
    row = {"n": 40, "successes": 30, "rate": 0.75, "ci95": [0.5981, 0.8581]}
    row |= {"wrong_object": 0.05, "old_goal_done": 0.0}
    group = {"parameters": 1000, "trainable": 0}
    return {
        "family": "qwen3-vl",
        "source": "qwen3-vl:tiny",
        "action": action.tiny().to_json(),
        "parameters": {"vision": group, "head": group | {"trainable": 1000}},
        "command": "vlm4vla train imitation",
        "training": {
            "stages": [
                {"stage": "language", "recipe": {"loop": {"steps": 500}}},
                {"stage": "imitation", "recipe": {"loop": {"steps": 1200}}},
            ]
        },
        "evaluation": {"first_seed": 0, "sentences": "held out", "tasks": {"pick": row}},
        "notes": "Its teacher was patient.",
    } | changes


def front_matter(text):
    _, block, page = text.split("---\n", 2)
    return yaml.safe_load(block), page


def test_the_hub_reads_figures_with_n_and_interval():
    data, _ = front_matter(card(manifest()))
    assert data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "robotics"
    (result,) = data["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.75
    # Wilson for 30 of 40: 59.8 to 85.8 %.
    assert result["metrics"][0]["name"] == "success, n = 40, 95 % interval 60 to 86 %"
    assert "seeds 0 to 39" in result["dataset"]["name"]


def test_a_person_reads_figures_use_limits_and_licence():
    _, page = front_matter(card(manifest()))
    titles = [line for line in page.splitlines() if line.startswith("#")]
    assert titles == [
        "# A robot policy on qwen3-vl:tiny",
        *(f"## {name}" for name in ("What it does", "Use", "Limits", "Training", "Licence")),
    ]
    assert "| pick | the scene's first goal | 75 % | 30 of 40 | 60 to 86 % | 5 % |" in page
    assert "Weakest at `pick`" in page
    assert "never moves in roll, pitch, yaw" in page
    assert "2 stages (1 of language, 1 of imitation), 1,700 optimiser steps" in page
    ended = manifest()
    ended["training"]["stages"][1]["figures"] = {"stopped_at_step": 1000.0}
    assert "1,500 optimiser steps" in card(ended)
    assert "Its teacher was patient." in page
    assert "CC BY-NC 4.0" in page


def test_goals_are_told_apart():
    first = manifest()["evaluation"]
    again = json.loads(json.dumps(first))
    again["tasks"]["pick"] |= {"successes": 10, "rate": 0.25}
    data, page = front_matter(card(manifest(evaluation=first | {"alternate": again})))
    assert [r["metrics"][0]["value"] for r in data["model-index"][0]["results"]] == [0.75, 0.25]
    assert "Weakest at `pick` (another goal of the same scene): 25 %" in page


def test_nothing_is_claimed_that_was_not_measured():
    data, page = front_matter(card(manifest(evaluation={}, training={}, command="", notes="")))
    assert "model-index" not in data
    assert "Not measured yet" in page
    assert "Weakest" not in page


@pytest.mark.parametrize(
    ("source", "base"),
    [("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"), ("./x/y", None)],
)
def test_the_licence_of_somebody_elses_weights_is_theirs(source, base):
    data, page = front_matter(card(manifest(source=source)))
    assert "license" not in data
    assert data.get("base_model") == base
    assert f"come from {source}; its licence holds" in page


def test_the_shipped_card_is_made_from_the_shipped_json_and_short():
    text = (SHIPPED / "README.md").read_text("utf-8")
    content = json.loads((SHIPPED / "policy.json").read_text("utf-8"))
    assert text == card(content)
    assert len(text) < 8000
    assert content["evaluation"]["checkpoint"] == checkpoint_hash(SHIPPED)
