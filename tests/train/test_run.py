"""A run's folder: one process at a time, and several that divide a stage."""

import inspect
import os
import threading

import pytest

from tests import waiting
from vlm4vla import cli
from vlm4vla.errors import UserError
from vlm4vla.files import held
from vlm4vla.train.dagger import run_dagger
from vlm4vla.train.run import Run
from vlm4vla.train.stages import run_grounding, run_imitation, run_language, run_tokens


@pytest.fixture
def in_progress(tmp_path):
    """A run's folder that somebody else holds."""
    out, release, holding = tmp_path / "run", threading.Event(), threading.Event()

    def hold():
        with held(out):
            holding.set()
            release.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert holding.wait(60)
    yield out
    release.set()
    waiting.join([other], 60)


def test_a_run_in_progress_is_left_alone(in_progress, capsys):
    before = {path.name for path in in_progress.iterdir()}
    assert cli.main(["train", "grounding", "--out", str(in_progress)]) == 2
    assert {path.name for path in in_progress.iterdir()} == before
    told = capsys.readouterr().err
    assert f"{in_progress} is in use by process {os.getpid()} on " in told
    assert "Wait until it has ended, or choose another folder." in told


@pytest.mark.parametrize(
    "begin", [run_language, run_grounding, run_imitation, run_tokens, run_dagger]
)
def test_whoever_begins_a_run_has_its_folder_alone(in_progress, begin):
    wanted = len(inspect.signature(begin).parameters) - 1
    with pytest.raises(UserError, match="is in use by process"):
        begin(Run(in_progress), *[None] * wanted)


@pytest.mark.parametrize("stage", ["all", "dagger"])
def test_several_processes_are_told_which_stages_they_can_divide(
    stage, capsys, tmp_path, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["train", stage, "--out", str(tmp_path / "run")]) == 2
        told = capsys.readouterr().err
        assert f"`vlm4vla train {stage}` trains in one process, and 2 were started." in told
        assert "language, grounding, tokens and imitation" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["language", "imitation"])
def test_several_processes_may_divide_one_stage(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("vlm4vla.commands.train._train", lambda job, args: job.folder)
    assert cli.main(["train", stage, "--out", str(tmp_path / "run")]) == 0
