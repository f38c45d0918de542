"""`vlm4vla train`: what it is told."""

import pytest

from vlm4vla import cli
from vlm4vla.commands import train as command


@pytest.mark.parametrize(
    ("stage", "words", "stages"),
    [
        ("imitation", ["--keep", "7"], "language"),
        ("imitation", ["--rounds", "3"], "dagger"),
        ("grounding", ["--episodes", "9"], "dagger"),
        ("tokens", ["--datasets", "/nope"], "dagger"),
        ("imitation", ["--drawings", "/nope"], "language, all"),
        ("imitation", ["--family", "qwen3-vl"], "language, all"),
        ("dagger", ["--init", "vlm"], "grounding, tokens, imitation"),
        ("dagger", ["--data", "/nope"], "grounding, tokens, imitation, all"),
        ("language", ["--init", "scratch"], "grounding, tokens, imitation"),
        ("language", ["--words", "a"], "grounding, tokens, imitation"),
        ("tokens", ["--comparisons", "6"], "grounding, imitation"),
        ("language", ["--tasks", "pick"], "grounding, tokens, imitation, dagger, all"),
        ("language", ["--data", "/nope"], "grounding, tokens, imitation, all"),
    ],
)
def test_what_a_stage_has_no_use_for_is_refused(stage, words, stages, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", stage, "--out", str(out), *words]) == 2
    told = capsys.readouterr().err
    assert f"The stage {stage} has no use for {words[0]}." in told
    assert told.endswith(f"it is for {stages}.\n") and not out.exists()


@pytest.mark.parametrize(
    ("words", "init", "family"),
    [
        (["imitation", "--from", "a", "--data", "b", "--tasks", "pick"], "vlm", "qwen3-vl"),
        (["tokens", "--init", "scratch"], "scratch", "qwen3-vl"),
        (["language", "--family", "internvl", "--keep", "0.5"], "vlm", "internvl"),
        (["dagger", "--datasets", "a", "--tasks", "pick", "--rounds", "3"], "vlm", "qwen3-vl"),
    ],
)
def test_what_a_stage_takes_is_handed_on(words, init, family, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(command, "_train", lambda job, args: told.append(args) or job.folder)
    assert cli.main(["train", *words, "--out", str(tmp_path)]) == 0
    assert (told[0].init, told[0].family) == (init, family)


def test_all_is_told_what_is_usual(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(command, "_train_all", lambda job, args: told.append(args) or job.folder)
    words = ["--data", "a", "--tasks", "pick", "--drawings", "b", "--out", str(tmp_path)]
    assert cli.main(["train", "all", *words]) == 0
    assert (told[0].init, told[0].family) == ("vlm", "qwen3-vl")


@pytest.mark.parametrize(
    ("words", "seed"),
    [([], 0), (["--preset", "paper"], 123), (["--preset", "paper", "--seed", "0"], 0)],
)
def test_a_seed_that_is_not_given_is_the_presets(words, seed, tmp_path, monkeypatch):
    learned = []
    monkeypatch.setattr(
        command, "_learn", lambda job, recipe, args: learned.append(recipe) or job.folder
    )
    assert cli.main(["train", "imitation", *words, "--out", str(tmp_path)]) == 0
    assert learned[0].loop.seed == seed


@pytest.mark.parametrize("stage", ["grounding", "imitation"])
def test_comparisons_are_drawn_as_often_as_is_asked(stage, tmp_path, monkeypatch, capsys):
    learned = []
    monkeypatch.setattr(
        command, "_learn", lambda job, recipe, args: learned.append(recipe) or job.folder
    )
    words = ["train", stage, "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert cli.main([*words, "--comparisons", "6"]) == 0
    assert [recipe.comparisons for recipe in learned] == [1, 6]
    assert cli.main([*words, "--comparisons", "-1"]) == 2
    assert "--comparisons -1 is no number of times." in capsys.readouterr().err
