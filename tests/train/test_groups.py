"""`--train` from the command line to the manifest of the checkpoint."""

import json

import pytest
from synthetic import make_cache

from vlm4vla import cli
from vlm4vla.commands import train as command
from vlm4vla.model.groups import GROUPS, group_of
from vlm4vla.model.load import load_vlm
from vlm4vla.model.vlm import save_vlm
from vlm4vla.train import stages
from vlm4vla.train.objectives.language import make_backbone

SMALL = {"vision_layers": 3, "vision_width": 48, "language_layers": 3, "language_width": 48}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    save_vlm(make_backbone(**SMALL, heads=4), folder)
    return folder


@pytest.fixture
def start(vlm, tmp_path, monkeypatch):
    """Runs one step of a stage; returns the exit code and the names that learned in it."""
    monkeypatch.setattr(command, "open_frames", lambda folder: make_cache(episodes=20, frames=2))
    real, learning = stages.train, []

    def train(lesson, *args, **kwargs):
        policy = lesson.module.policy
        learning[:] = [name for name, p in policy.named_parameters() if p.requires_grad]
        real(lesson, *args, **kwargs)

    monkeypatch.setattr(stages, "train", train)

    def start(stage, *groups):
        options = ["--from", str(vlm), "--out", str(tmp_path), "--device", "cpu", "--check-every"]
        options += ["0", "--steps", "1", "--batch", "2", "--train", *groups]
        options += ["--sight-steps", "0"] if stage == "grounding" else []
        return cli.main(["train", stage, *options]), list(learning)

    return start


@pytest.mark.parametrize("stage", ["grounding", "imitation"])
@pytest.mark.parametrize("groups", [["language", "head"], ["vision", "embeddings"]])
def test_a_stage_trains_and_records_the_named_groups(stage, groups, start, vlm, tmp_path):
    _, learned = start(stage, *groups)
    known = load_vlm(vlm, device="cpu")
    inside = group_of(known.family, known.base)
    expected = {f"base.{name}" for name, group in inside.items() if group in groups}
    assert {name for name in learned if name.startswith("base.")} == expected
    assert ("query" in learned) == ("head" in groups)
    manifest = json.loads((tmp_path / "checkpoint" / "policy.json").read_text())
    assert manifest["trainable"] == learned


def test_a_run_does_not_go_on_with_other_groups(start, capsys):
    assert start("imitation", "language", "head")[0] == 0
    assert start("imitation", *GROUPS)[0] == 2
    assert "(frozen differ)" in capsys.readouterr().err
    assert start("imitation", "language", "head")[0] == 0


def test_dagger_is_told_the_groups(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(command, "run_dagger", lambda *args: told.append(args[-1]) or tmp_path)
    assert cli.main(["train", "dagger", "--train", "head"]) == 0
    assert cli.main(["train", "dagger"]) == 0
    assert told == [["head"], list(GROUPS)]


def test_the_language_stage_leaves_no_group_out(capsys):
    assert cli.main(["train", "language", "--train", "head"]) == 2
    assert "cannot leave groups out" in capsys.readouterr().err
