"""`vlm4vla ablate`: what it runs, and what it prints."""

import json

import pytest

from tests.episodes.examples import VERSIONS, example
from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.cli import main
from vlm4vla.commands import ablate
from vlm4vla.core.episode import AgentSpan
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.model.checkpoint import checkpoint_hash

COMMAND = ["ablate", "--checkpoint", "qwen3vl-tiny", "--workers", "1"]


@pytest.fixture
def told(tmp_path, monkeypatch):
    """The command with a stand-in for the robot: only intact episodes succeed."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(ablate, "prepare", lambda *_, **__: None)
    asked = []

    def run_missing(table, specs, agent, make_agent, workers, member, heading):
        for spec in specs:
            asked.append((heading(spec), member(spec).kind))
            kind = "dropped" if spec.condition.perturbations else "success"
            made = example(spec.seed, agents=(AgentSpan(agent),), outcome=kind)
            table.put(
                type(made)(**{**vars(made), "spec": spec, "versions": VERSIONS}), [member(spec)]
            )

    monkeypatch.setattr(ablate, "run_missing", run_missing)
    return asked


def test_ablate_prints_the_contract(told, capsys):
    command = [*COMMAND, "--tasks", "pick", "--episodes", "5", "--grid", "sentence"]
    command += ["--perturb", "sentence-empty", "picture-blur", "sigma=2", "first_step=4", "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == {"checkpoint", "first_seed", "tasks", "cells", "episodes"}
    assert answer["checkpoint"] == checkpoint_hash(SHIPPED / "qwen3vl-tiny")
    assert [cell["label"] for cell in answer["cells"]] == [
        "intact",
        "sentence-empty",
        "sentence-other-object",
        "sentence-order",
        "picture-blur (sigma 2.0) from step 4 on, sentence-empty",
    ]
    intact, empty, *_ = answer["cells"]
    assert (intact["successes"], intact["n"], intact["paired"]) == (5, 5, None)
    assert (empty["successes"], empty["n"]) == (0, 5)
    assert empty["paired"]["difference"] == -1.0
    # Five scenes that all differ one way: p = 2 / 2^5, and Holm's factor for four of a kind.
    assert empty["p"] == pytest.approx(0.25)
    # The stand-in acts alike in every condition.
    assert empty["divergence"][0] == {"step": 0, "mm": 0.0, "n": 5}
    table = EpisodeTable()
    assert table.count(Filter(kind="study", name="ablation")) == 20
    assert table.count(Filter(kind="evaluation")) == 5
    assert told[0] == ("intact, pick", "evaluation")
    assert main(command[:-1]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("sentence-empty: 0 of 5 (95 % 0.0% to 43.4%)")


def test_all_conditions_are_adjusted_together_and_none_stands_twice(told, capsys):
    command = [*COMMAND, "--tasks", "pick", "--episodes", "5", "--grid", "sentence"]
    further = ["--perturb", "picture-blank", "--perturb", "sentence-empty", "--json"]
    assert main([*command, *further]) == 0
    cells = json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]
    assert [cell["label"] for cell in cells][1:3] == ["sentence-empty", "sentence-other-object"]
    assert [cell["label"] for cell in cells][4:] == ["picture-blank (level 128)"]
    # Five scenes one way, p = 1 / 16 each, and four comparisons.
    assert [cell["p"] for cell in cells[1:]] == pytest.approx([0.25] * 4)


def test_the_whole_grid_is_sixteen_conditions(told):
    command = [*COMMAND, "--tasks", "pick", "--episodes", "1", "--grid", "picture", "sentence"]
    assert main(command) == 0
    assert len(told) == len({heading for heading, _ in told}) == 16


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Nothing is to be perturbed"),
        (["--perturb", "sigma=2"], "sigma=2 belongs to no perturbation"),
        (["--perturb", "picture-blnk"], "Did you mean 'picture-blank'"),
        (["--grid", "picture", "--first-seed", "100000"], "not for reporting"),
        (["--grid", "picture", "--episodes", "0"], "start at 1"),
        (["--perturb", "picture-blank", "first_step=soon"], "whole numbers"),
        # Picking has no place to put things, and the intact episodes would come first.
        (["--perturb", "picture-without", "what=target"], "target"),
        (["--perturb", "skip-language-layer", "layer=99"], "has no layer 99"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(told, words, why, capsys):
    assert main([*COMMAND, *words]) == 2
    assert why in capsys.readouterr().err
    assert not told
