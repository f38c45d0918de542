from pathlib import Path
from typing import Any

import pytest

from tests.model.conftest import make
from vlm4vla.action import tiny
from vlm4vla.agents.several import each_once
from vlm4vla.cli import main
from vlm4vla.commands import distance, openloop
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy


def test_each_is_measured_once_however_it_was_named() -> None:
    named = [("a", "1"), ("b", "2"), ("a", "1"), ("runs/a", "1")]
    assert each_once(named, lambda one: one) == [("a", "1"), ("b", "2")]


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="Two different checkpoints are called checkpoint"):
        each_once([("checkpoint", "1"), ("checkpoint", "2")], lambda one: one)


@pytest.mark.parametrize("command", [distance, openloop])
def test_two_policies_of_one_name_are_refused_before_anything_is_measured(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    folders = [tmp_path / run / "checkpoint" for run in ("a", "b")]
    for number, folder in enumerate(folders):
        policy = Policy(make(), tiny(), query_init="embedding").eval()
        policy.query.data.fill_(number)
        policy.save_pretrained(folder)

    def never(*args: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(command, "EnvironmentProcess", never)
    name = command.__name__.rpartition(".")[2]
    words = [name, "--checkpoint", *map(str, folders), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "Two different checkpoints are called checkpoint" in capsys.readouterr().err
