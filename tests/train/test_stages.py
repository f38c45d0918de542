"""Each stage in miniature, from start to checkpoint, on pictures that need no simulator."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from synthetic import make_cache

from vlm4vla import action, cli
from vlm4vla.errors import UserError
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.train import stages
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.batches.pictures import draw_pool, mirrored
from vlm4vla.train.batches.transfer import to_tensors
from vlm4vla.train.loop.recipe import Recipe
from vlm4vla.train.loop.state import load_state
from vlm4vla.train.objectives.grounding import GroundingObjective, GroundingRecipe, check_numbers
from vlm4vla.train.objectives.imitation import ImitationRecipe, measure_imitation
from vlm4vla.train.objectives.language import (
    LanguageObjective,
    LanguageRecipe,
    epoch_order,
    make_backbone,
)
from vlm4vla.train.objectives.tokens import TokensRecipe
from vlm4vla.train.presets import PRESETS
from vlm4vla.train.provenance import lineage
from vlm4vla.train.run import Run
from vlm4vla.train.stages import (
    learned_and_unseen,
    run_grounding,
    run_imitation,
    run_language,
    run_tokens,
)
from vlm4vla.train.start import identity_of, start_policy
from vlm4vla.train.synthetic.questions import LOCATIONS

SMALL = {
    "vision_layers": 3,
    "vision_width": 96,
    "language_layers": 3,
    "language_width": 96,
    "heads": 4,
}
LOOP = Recipe(steps=50, batch=16, learning_rate=1.5e-3, warmup=10, save_every=30, ema=0.9)
LANGUAGE = LanguageRecipe(LOOP, questions=2, alignment_steps=40)


@pytest.fixture(scope="module")
def pools():
    return draw_pool(80), draw_pool(16, held_out=True)


@pytest.fixture(scope="module")
def cache():
    return make_cache(episodes=60, frames=3)


@pytest.fixture(scope="module")
def language(tmp_path_factory, pools):
    """The run's folder; so short a run cannot pass the gates."""
    folder = tmp_path_factory.mktemp("language")
    with pytest.raises(UserError, match="accuracy of naming a colour is"):
        run_language(Run(folder, device="cpu"), LANGUAGE, sizes=SMALL, pools=pools)
    return folder


def test_the_language_stage_leaves_a_vlm_and_says_which_gate_failed(language):
    gates = json.loads((language / "gates.json").read_text())
    assert [gate["figure"] for gate in gates] == [
        "accuracy of naming a colour",
        "median pointing error in cells",
    ]
    skill = json.loads((language / "skill.json").read_text())
    assert {"colour", "shape", "count", "relation", "existence", "naming"} <= set(skill)
    vlm = load_vlm(language / "vlm", device="cpu")
    assert vlm.tokenizer.token_to_id(LOCATIONS[-1]) == vlm.base.config.text_config.vocab_size - 1


def test_gates_are_there_before_what_the_stage_hands_on(pools, tmp_path, monkeypatch):
    recipe = replace(LANGUAGE, loop=replace(LOOP, steps=2, batch=4), alignment_steps=1)

    def learn():
        run_language(Run(tmp_path, device="cpu"), recipe, sizes=SMALL, pools=pools)

    with monkeypatch.context() as killed:
        killed.setattr(stages, "save_vlm", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learn()
    assert (tmp_path / "gates.json").is_file()
    assert not (tmp_path / "vlm").exists()
    with pytest.raises(UserError, match="accuracy of naming"):
        learn()
    assert (tmp_path / "vlm").is_dir()


def test_patches_learn_their_colours_within_fifty_steps(language, pools):
    vlm = load_vlm(language / "vlm", device="cpu")
    lesson = LanguageObjective(Policy.from_vlm(vlm, action.tiny()), pools[0], LANGUAGE)
    with torch.inference_mode():
        batch = to_tensors(lesson.batch(0), torch.device("cpu"))
        _, trained = lesson.module(batch)
        untrained = LanguageObjective(
            Policy.from_vlm(make_backbone(**SMALL), action.tiny(), device="cpu"),
            *[pools[0], LANGUAGE],
        )
        _, random = untrained.module(batch)
    # Six colours: a sixth by chance.
    assert random["colour"] < 0.4
    assert trained["colour"] > 0.7


def test_a_batch_is_a_function_of_its_index(pools):
    policy = Policy.from_vlm(make_backbone(**SMALL), action.tiny(), device="cpu")
    lesson = LanguageObjective(policy, pools[0], LANGUAGE)
    assert lesson.batch(0).asked is None
    later, again = lesson.batch(50), lesson.batch(50)
    assert (later.asked.rows.ids == again.asked.rows.ids).all()
    assert len(later.asked.rows.ids) == 32
    assert (later.pictures == again.pictures).all()
    assert later.pictures.tolist() != lesson.batch(51).pictures.tolist()


def test_ranks_learn_disjoint_parts_of_one_batch(pools):
    policy = Policy.from_vlm(make_backbone(**SMALL), action.tiny(), device="cpu")
    lesson = LanguageObjective(policy, pools[0], LANGUAGE)
    whole = lesson.batch(50)
    for rank in range(2):
        part = lesson.batch(50, rank, 2)
        assert part.pictures.tolist() == whole.pictures[rank::2].tolist()
        mine = np.isin(whole.asked.image_index, np.arange(rank, LOOP.batch, 2))
        width = part.asked.rows.ids.shape[1]
        assert (part.asked.rows.ids == whole.asked.rows.ids[mine, :width]).all()


def test_pictures_are_mirrored_with_everything_in_them(pools):
    picture = pools[0][0]
    other = mirrored(picture)
    assert (other.image[:, 0] == picture.image[:, -1]).all()
    assert (mirrored(other).segmentation == picture.segmentation).all()
    for item, moved in zip(picture.items, other.items, strict=True):
        assert (moved.name, moved.x, moved.y) == (item.name, 128 - item.x, item.y)


def test_a_crashed_language_run_goes_on_to_the_identical_vlm(pools, tmp_path, monkeypatch):
    recipe = replace(LANGUAGE, loop=replace(LOOP, steps=6, batch=4, save_every=2))
    recipe = replace(recipe, alignment_steps=2)

    def learn(folder):
        with pytest.raises(UserError, match="accuracy of naming"):
            run_language(Run(folder, device="cpu"), recipe, sizes=SMALL, pools=pools)
        return load_vlm(folder / "vlm", device="cpu").base.state_dict()

    whole = learn(tmp_path / "whole")
    batch = LanguageObjective.batch
    with monkeypatch.context() as patch:
        patch.setattr(
            LanguageObjective,
            "batch",
            lambda self, i, **part: batch(self, i if i < 5 else 1 / 0, **part),
        )
        with pytest.raises(ZeroDivisionError):
            learn(tmp_path / "crashed")
    resumed = learn(tmp_path / "crashed")
    assert load_state(tmp_path / "crashed").step == 6
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_an_epoch_holds_every_sample_once():
    seen = [i for index in range(4) for i in epoch_order(8, 2, index, seed=0)]
    assert sorted(seen) == list(range(8))
    following = [i for index in range(4, 8) for i in epoch_order(8, 2, index, seed=0)]
    assert sorted(following) == list(range(8))
    assert following != seen


def test_grounding_learns_and_says_which_gate_failed(language, cache, tmp_path):
    policy = start_policy(language / "vlm", "vlm", "cpu")
    loop = replace(LOOP, steps=30, warmup=4, ema=0.5)
    recipe = GroundingRecipe(loop, instructions=2, sight_steps=6)
    with pytest.raises(UserError, match="median error of the named object"):
        run_grounding(Run(tmp_path, device="cpu"), recipe, policy, cache, ["reach", "pick"])
    figures = json.loads((tmp_path / "grounding.json").read_text())
    points = {"gripper_mm", "thing_mm", "place_mm", "first_mm"}
    assert set(figures) == points | {"bound", "compared"}
    learned = load_state(tmp_path).tensors
    assert learned["weights/head.layers.0.weight"].shape == (192, 96)
    assert Policy.from_pretrained(tmp_path / "checkpoint", "cpu").spec == action.tiny()
    seeing = GroundingObjective(policy, Frames(cache, cache.split().validation), recipe)
    assert seeing.batch(5).asked is None
    assert len(seeing.batch(6).asked.rows.ids) == 2 * LOOP.batch
    sight = seeing.batch(5).visual
    assert sight and sight.tips.shape == (LOOP.batch, 3)
    places_only = replace(recipe, alignment=0.0, names=0.0)
    lesson = GroundingObjective(policy, Frames(cache, cache.split().validation), places_only)
    lesson.grounding.head.load_state_dict(
        {
            name.removeprefix("average/head."): value
            for name, value in learned.items()
            if name.startswith("average/head.")
        }
    )
    with torch.inference_mode():
        loss, _ = lesson.module(to_tensors(lesson.batch(0), torch.device("cpu")))
    # Knowing nothing costs the logarithm of 48 bins, 3.87; knowing the table's size costs less.
    assert loss < 3.2


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"control_mode": "pd_joint_pos"}, "another meaning here: control_mode is pd_joint_pos"),
        ({"chunk": 10}, "plans 10 actions at once, and the data's labels hold 4"),
    ],
)
def test_a_policy_of_other_actions_is_refused_before_it_learns(
    language, cache, tmp_path, other, told
):
    policy = Policy.from_vlm(language / "vlm", replace(action.tiny(), **other), device="cpu")
    for run_stage, recipe in (
        (run_grounding, GroundingRecipe(LOOP)),
        (run_imitation, ImitationRecipe(LOOP)),
        (run_tokens, TokensRecipe(LOOP)),
    ):
        with pytest.raises(UserError, match=told):
            run_stage(Run(tmp_path / "run", device="cpu"), recipe, policy, cache, ["reach"])
    assert not (tmp_path / "run").exists()


def test_imitation_learns_and_only_the_named_groups(language, cache, tmp_path):
    policy = start_policy(language / "vlm", "vlm", "cpu")
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    frames = Frames(cache, cache.split().validation, ["reach"])
    numbers = check_numbers(frames, 4, 4)
    start = measure_imitation(policy, frames, numbers).arm_mm["all"]
    recipe = ImitationRecipe(replace(LOOP, steps=24, warmup=4, batch=12), instructions=2)
    target = run_imitation(
        Run(tmp_path, device="cpu"), recipe, policy, cache, ["reach"], ["language", "head"]
    )
    assert measure_imitation(policy, frames, numbers).arm_mm["all"] < start
    for name, parameter in policy.named_parameters():
        if name.startswith("base.visual") or "embed_tokens" in name:
            assert torch.equal(before[name], parameter), name
    assert not torch.equal(before["query"], policy.query)
    loaded = Policy.from_pretrained(target, "cpu")
    image = cache.images[:1]
    assert np.allclose(
        loaded.act(image, ["touch the red cube"]),
        policy.act(image, ["touch the red cube"]),
        atol=1e-4,
    )
    manifest = json.loads((target / "policy.json").read_text())
    assert manifest["data"] == {"cache": "synthetic"}
    stages_so_far = [entry["stage"] for entry in manifest["training"]["stages"]]
    assert stages_so_far == ["language", "imitation"]


def test_a_run_goes_on_from_the_same_weights_in_another_folder_and_from_no_others(
    language, cache, tmp_path
):
    def learn(vlm):
        run = Run(tmp_path / "run", device="cpu", start=identity_of(vlm))
        recipe = ImitationRecipe(replace(LOOP, steps=2, warmup=0, batch=2), instructions=1)
        return run_imitation(run, recipe, start_policy(vlm, "vlm", "cpu"), cache, ["reach"])

    elsewhere = shutil.copytree(language / "vlm", tmp_path / "elsewhere")
    learn(language / "vlm")
    learn(elsewhere)
    weights = load_file(elsewhere / "model.safetensors")
    next(iter(weights.values())).mul_(1.01)
    save_file(weights, elsewhere / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"another recipe \(start differ\)"):
        learn(elsewhere)


def test_the_paper_preset_has_the_published_settings_of_bridge():
    recipe = PRESETS["paper"]["imitation"]
    loop = recipe.loop
    assert (loop.steps, loop.batch * loop.accumulation, loop.seed) == (50_000, 512, 123)
    assert (loop.learning_rate, loop.weight_decay, loop.schedule) == (2e-5, 0.0, "constant")
    assert (loop.clip, loop.ema) == (0.0, 0.0)
    assert (recipe.gripper, recipe.instructions, recipe.brightness) == (0.01, 1, 0.2)
    assert (recipe.grounding, recipe.names, recipe.alignment) == (0.0, 0.0, 0.0)


def test_the_paper_preset_warms_up_for_the_steps_that_studies_declare_and_not_as_published():
    loop = PRESETS["paper"]["imitation"].loop
    assert loop.warmup == 250
    # A quarter of an epoch of Bridge, which has 2,135,463 frames, is 1,042.7 steps.
    assert loop.warmup < 0.25 * 2_135_463 / loop.batch


def test_the_command_names_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    assert cli.main(["train", "grounding"]) == 2
    assert "vlm4vla collect" in capsys.readouterr().err


def test_one_scene_is_too_few_and_two_are_enough():
    few = make_cache(episodes=2, frames=3)
    learned, unseen = learned_and_unseen(few, ["pick"])
    assert len(learned) == len(unseen) == 3
    with pytest.raises(UserError, match=r"one scene for pick, and .* two: .* Collect 2 or more"):
        learned_and_unseen(make_cache(episodes=1, frames=3), ["pick"])
    with pytest.raises(UserError, match="no frames for push"):
        learned_and_unseen(few, ["push"])


@pytest.mark.parametrize("account", ["[", "{}", "[3]"])
def test_a_damaged_account_is_named(account):
    vlm = SimpleNamespace(source="runs/vlm", extras={"training.json": account})
    with pytest.raises(UserError, match=r"training\.json of runs/vlm cannot be read.* delete"):
        lineage(vlm)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["language"], 3_000),
        (["language", "--sight-steps", "7"], 7),
        (["language", "--from", "a"], 0),
        (["language", "--from", "a", "--sight-steps", "9"], 9),
    ],
)
def test_a_language_stage_that_goes_on_sees_no_longer_unless_told(arguments, steps, monkeypatch):
    recipes = []
    monkeypatch.setattr(
        "vlm4vla.commands.train.run_language",
        lambda run, recipe, source, **more: recipes.append(recipe) or run.folder,
    )
    assert cli.main(["train", *arguments]) == 0
    assert recipes[0].alignment_steps == steps


def test_the_vlm_is_kept_on_the_way_as_its_average_was(pools, tmp_path):
    recipe = replace(LANGUAGE, loop=replace(LOOP, steps=4, batch=4, ema=0.5), alignment_steps=3)
    with pytest.raises(UserError, match="accuracy of naming"):
        run_language(Run(tmp_path, device="cpu"), recipe, sizes=SMALL, pools=pools, keep=[0.5])
    kept = load_vlm(tmp_path / "vlm-50", device="cpu").base.state_dict()
    last = load_vlm(tmp_path / "vlm", device="cpu").base.state_dict()
    assert kept.keys() == last.keys()
    assert not torch.equal(kept["visual.pos_embed.weight"], last["visual.pos_embed.weight"])


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_of_the_steps_lies_between_none_and_all(share, capsys):
    assert cli.main(["train", "language", "--keep", share]) == 2
    assert "no share of the steps" in capsys.readouterr().err


def test_stages_without_sight_refuse_its_steps(capsys):
    assert cli.main(["train", "imitation", "--sight-steps", "5"]) == 2
    assert "The stage imitation has no sight steps." in capsys.readouterr().err


@pytest.mark.parametrize("sight", [[], ["--sight-steps", "420"], ["--sight-steps", "-1"]])
def test_a_stage_of_nothing_but_sight_is_refused(sight, capsys):
    assert cli.main(["train", "grounding", "--steps", "420", *sight]) == 2
    assert "fewer --sight-steps" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["language", "imitation", "dagger", "all"])
@pytest.mark.parametrize(
    ("flag", "value", "least"),
    [
        ("--batch", "0", 1),
        ("--accumulation", "0", 1),
        ("--steps", "0", 1),
        ("--steps", "-4", 1),
        ("--rounds", "0", 1),
        ("--episodes", "-1", 1),
        ("--seed", "-1", 0),
        ("--check-every", "-1", 0),
        ("--workers", "-1", 0),
    ],
)
def test_a_number_that_is_too_small_is_refused_before_anything_is_there(
    stage, flag, value, least, capsys, tmp_path
):
    out = tmp_path / "run"
    assert cli.main(["train", stage, "--out", str(out), flag, value]) == 2
    told = capsys.readouterr().err
    assert told == (f"vlm4vla train: {flag} {value} is too small. Give {flag} at least {least}.\n")
    assert not out.exists()


@pytest.mark.parametrize("rate", ["0", "-0.1", "nan", "inf"])
def test_a_learning_rate_that_teaches_nothing_is_refused(rate, capsys):
    assert cli.main(["train", "imitation", "--learning-rate", rate]) == 2
    assert "Give --learning-rate a positive number" in capsys.readouterr().err


def test_compiling_without_a_compiler_is_refused_at_once(capsys, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert cli.main(["train", "language", "--compile"]) == 2
    assert "needs a C++ compiler" in capsys.readouterr().err
