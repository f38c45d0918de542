"""What a finished run has to be for its cell to count."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlm4vla.errors import UserError
from vlm4vla.studies.registry import STUDIES
from vlm4vla.studies.trained import check_step

STEP = next(m.cell.step for m in STUDIES["injection"].members if m.cell.step)


def refused(run: Path, **more: Any) -> str:
    recipe = {**STEP.constants, "seed": STEP.seed, "tasks": list(STEP.tasks), "data": STEP.data}
    recipe |= {"groups": list(STEP.groups), "shuffled": STEP.shuffled, **more}
    (run / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(UserError) as told:
        check_step(STEP, run)
    return str(told.value)


def test_a_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    assert "another learning_rate than" in refused(tmp_path, learning_rate=1.0)
    assert "another data, seed than" in refused(tmp_path, seed=9, data="other")


def test_numbers_that_came_later_are_as_they_were(tmp_path: Path) -> None:
    # The recipe of an earlier run does not tell them; then its figures are missed first.
    assert "tokens.json cannot be read" in refused(tmp_path)
    assert "tokens.json cannot be read" in refused(tmp_path, from_start=False, comparisons=1.0)
    assert "another from_start than" in refused(tmp_path, from_start=True)
    assert "another comparisons than" in refused(tmp_path, comparisons=6.0)
