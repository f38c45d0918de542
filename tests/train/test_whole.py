"""The whole recipe in one call: every stage once, each where it stopped, gates told at the end."""

import json
import shutil
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from synthetic import make_cache

from vlm4vla import cli
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.model.policy import Policy
from vlm4vla.train import stages, whole
from vlm4vla.train.gates import GateFailed
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.objectives.grounding import GroundingRecipe
from vlm4vla.train.objectives.imitation import ImitationRecipe
from vlm4vla.train.objectives.language import LanguageRecipe
from vlm4vla.train.run import Run

LOOP = Recipe(steps=2, batch=4, learning_rate=1e-3, warmup=1, save_every=1, ema=0.5)
RECIPES = {
    "language": LanguageRecipe(LOOP, pictures=40, questions=1, alignment_steps=1),
    "grounding": GroundingRecipe(LOOP, instructions=1, sight_steps=1),
    "imitation": ImitationRecipe(LOOP, instructions=1),
}


@pytest.fixture
def few_held_out(monkeypatch):
    """Measures on a handful: how good two steps are is nobody's question."""
    draw = stages.draw_pool
    monkeypatch.setattr(stages, "draw_pool", lambda count, **o: draw(min(count, 12), **o))


def test_stages_that_are_over_are_not_repeated_and_failed_gates_are_told(
    tmp_path, few_held_out, monkeypatch
):
    cache = make_cache(episodes=12, frames=2)
    run = Run(tmp_path, device="cpu")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(whole, "run_imitation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            whole.run_whole(run, "internvl", RECIPES, cache)
    done = [tmp_path / "language" / "vlm", tmp_path / "grounding" / "checkpoint"]
    written = [(folder / "model.safetensors").stat().st_mtime_ns for folder in done]
    with pytest.raises(GateFailed, match=r"language: .*colour.*grounding: median error"):
        whole.run_whole(run, "internvl", RECIPES, cache)
    assert [(folder / "model.safetensors").stat().st_mtime_ns for folder in done] == written
    policy = Policy.from_pretrained(tmp_path / "imitation" / "checkpoint", "cpu")
    assert policy.vlm.family.name == "internvl"
    stages_so_far = json.loads(policy.vlm.extras["training.json"])
    assert [entry["stage"] for entry in stages_so_far] == ["language", "grounding", "imitation"]
    # An earlier version, killed at the wrong moment, left a result without its gates.
    (tmp_path / "language" / "gates.json").unlink()
    with pytest.raises(GateFailed, match=r"language: .*colour"):
        whole.run_whole(run, "internvl", RECIPES, cache)
    assert (tmp_path / "language" / "gates.json").is_file()
    longer = {**RECIPES, "language": replace(RECIPES["language"], loop=replace(LOOP, steps=3))}
    with pytest.raises(UserError, match=r"finished with another recipe .steps differ"):
        whole.run_whole(run, "internvl", longer, cache)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Runs the whole recipe of stages that learn nothing, and tells which of them began."""
    began = []

    def stage(name, result):
        def learn(run, recipe, *rest, **more):
            began.append(name)
            cache, tasks = rest[1:] if len(rest) == 3 else (None, ())
            robot = {"start": run.start, "data": cache.fingerprint, "tasks": tasks} if cache else {}
            about = stages.about_stage(name, recipe, **(robot or {"start": stages.NEW}))
            write_json(run.folder / "recipe.json", {**asdict(recipe.loop), **about})
            write_json(run.folder / "gates.json", [])
            (run.folder / result).mkdir(exist_ok=True)
            (run.folder / result / "model.safetensors").write_text(f"{name} {recipe.loop.seed}")
            return run.folder / result

        monkeypatch.setattr(whole, f"run_{name}", learn)

    for name in whole.WHOLE:
        stage(name, "vlm" if name == "language" else "checkpoint")
    monkeypatch.setattr(whole, "start_policy", lambda *args: None)

    def run(recipes=RECIPES, family="internvl", data="expert", tasks=()):
        began.clear()
        cache = SimpleNamespace(fingerprint=data)
        whole.run_whole(Run(tmp_path), family, recipes, cache, tasks)
        return list(began)

    assert run() == ["language", "grounding", "imitation"]
    assert run() == []
    return run


def test_stages_of_other_data_or_another_recipe_are_not_taken_over(finished):
    other = replace(RECIPES["imitation"], gripper=0.5)
    for asked, stage, differ in (
        ({"data": "expert+round-1"}, "grounding", "data"),
        ({"tasks": ["reach"]}, "grounding", "tasks"),
        ({"family": "qwen3-vl"}, "language", "family"),
        ({"recipes": {**RECIPES, "imitation": other}}, "imitation", "gripper"),
    ):
        with pytest.raises(UserError, match=rf"{stage} was finished .*\({differ} differ\)"):
            finished(**asked)
    assert finished() == []


def test_a_stage_of_another_start_is_refused_before_anything_is_trained(finished, tmp_path):
    shutil.rmtree(tmp_path / "language")
    with pytest.raises(UserError, match=r"grounding was finished .*\(start differ\)"):
        finished()
    assert not (tmp_path / "language").exists()


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--steps", "5"], "--steps"),
        (["--from", "somewhere"], "--from"),
        (["--init", "scratch"], "--init"),
        (["--keep", "0.5"], "--keep"),
    ],
)
def test_what_only_one_stage_can_be_told_is_refused(arguments, flag, capsys, tmp_path):
    assert cli.main(["train", "all", "--out", str(tmp_path / "run"), *arguments]) == 2
    assert f"{flag} is for one stage" in capsys.readouterr().err
