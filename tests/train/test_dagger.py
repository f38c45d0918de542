import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_cache

from vlm4vla import action
from vlm4vla.data.collect import Settings, collect
from vlm4vla.errors import UserError
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.train.dagger import DaggerRecipe, Recorder, budget, failure_rates, run_dagger
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.imitation import ImitationRecipe
from vlm4vla.train.objectives.language import make_backbone
from vlm4vla.train.run import Run

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import fake_environment

SMALL = {"vision_layers": 3, "vision_width": 48, "language_layers": 3, "language_width": 48}


def test_the_budget_follows_failures_and_forgets_no_task():
    # A quarter is shared evenly (10 each), the rest by 0.9 : 0.3 : 0.
    assert budget({"reach": 0.9, "pick": 0.3, "push": 0.0}, 120) == {
        "reach": 78,
        "pick": 32,
        "push": 10,
    }
    assert budget({"reach": 0.0, "pick": 0.0}, 10) == {"reach": 5, "pick": 5}
    assert budget({"reach": 1.0, "pick": 0.0}, 2)["pick"] == 1


def test_failure_rates_count_episodes_of_one_driver():
    cache = make_cache(episodes=4, frames=3)
    success = np.zeros(len(cache), bool)
    success[[4, 8]] = True  # in the second and third episode
    infos = [replace(info, driver="policy a") for info in cache.episodes]
    infos[2] = replace(infos[2], driver="expert")
    cache = replace(cache, success=success, episodes=tuple(infos))
    rates = failure_rates(cache, "policy a", ["pick", "reach"])
    assert rates == {"pick": pytest.approx(2 / 3), "reach": 1.0}


def fake_rig(checkpoint):
    return partial(fake_environment.rig)


def test_two_rounds_end_in_a_checkpoint_and_are_taken_over_as_they_were_asked_for(tmp_path, capsys):
    policy = Policy.from_vlm(make_backbone(**SMALL, heads=4), action.tiny(), device="cpu")
    policy.save_pretrained(tmp_path / "start")
    data = tmp_path / "data"
    collect(data, Settings(("reach",), 1_000_000, "expert"), 30, 1, fake_environment.rig, print)
    recipe = DaggerRecipe(
        ImitationRecipe(Recipe(steps=2, batch=2, learning_rate=1e-4, warmup=1), instructions=1),
        rounds=2,
        episodes=3,
        workers=1,
    )
    recorder = Recorder(
        fake_rig, lambda folder: f"policy {checkpoint_hash(folder)}", lambda p: None
    )
    run = Run(tmp_path / "run", device="cpu")
    groups = ["language", "head"]
    target = run_dagger(run, recipe, tmp_path / "start", [data], ["reach"], recorder, groups)
    assert target == tmp_path / "run" / "round-2" / "checkpoint"
    first, second = json.loads((tmp_path / "run" / "dagger.json").read_text())
    assert (first["round"], second["round"]) == (1, 2)
    manifest = json.loads((target / "policy.json").read_text())
    # The expert's dataset and one of each round.
    assert manifest["data"]["cache"].count("+") == 2
    assert manifest["parameters"]["vision"]["trainable"] == 0
    assert manifest["parameters"]["language"]["trainable"] > 0
    before = checkpoint_hash(target)

    def again(recipe=recipe, datasets=(data,), tasks=("reach",), groups=groups):
        return run_dagger(run, recipe, tmp_path / "start", datasets, tasks, recorder, groups)

    assert again() == target
    assert checkpoint_hash(target) == before
    longer = replace(recipe.imitation, loop=replace(recipe.imitation.loop, steps=3))
    more = tmp_path / "more"
    collect(more, Settings(("reach",), 2_000_000, "expert"), 2, 1, fake_environment.rig, print)
    for asked, differ in (
        ({"recipe": replace(recipe, imitation=longer)}, "steps"),
        ({"recipe": replace(recipe, imitation=replace(recipe.imitation, gripper=9))}, "gripper"),
        ({"groups": ["head"]}, "frozen"),
        ({"tasks": ("reach", "pick")}, "tasks"),
        ({"datasets": (data, more)}, "data"),
    ):
        with pytest.raises(UserError, match=rf"round-1 was finished .*\({differ} differ\)"):
            again(**asked)
    assert not (tmp_path / "run" / "round-1" / "data" / "pick").exists()
    assert not (tmp_path / "run" / "round-1" / "cache").exists()
    assert checkpoint_hash(again()) == before


def test_what_is_missing_is_named_before_anything_is_recorded(tmp_path):
    recipe = DaggerRecipe(ImitationRecipe(Recipe(steps=1, batch=1, learning_rate=1e-4)))
    recorder = Recorder(fake_rig, str, print)
    with pytest.raises(UserError, match="is no checkpoint"):
        run_dagger(Run(tmp_path), recipe, tmp_path / "x", [], ["reach"], recorder)
