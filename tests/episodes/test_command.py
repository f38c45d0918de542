import json
from pathlib import Path
from typing import Any

import pytest

from tests.episodes.examples import EVALUATION, LIVE, example
from vlm4vla.cli import main
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.table import FILE, EpisodeTable


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VLM4VLA_LOCAL", raising=False)
    # The project's own results would come in beside those that the tests count.
    monkeypatch.setattr("vlm4vla.commands.episodes.SHIPPED", tmp_path / "none")
    return tmp_path / "home"


@pytest.fixture
def table(home: Path) -> EpisodeTable:
    table = EpisodeTable()
    for seed in range(3):
        table.put(example(seed), [EVALUATION])
    table.put(example(3, source="live", words="given", outcome="dropped"), [LIVE])
    return table


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["episodes", *arguments, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["episodes", *arguments]) == 2
    return capsys.readouterr().err


def test_rows_are_listed_newest_first(table, capsys) -> None:
    found = answer(capsys, "list", "--limit", "2")
    assert found["count"] == 4
    assert [one["spec"]["seed"] for one in found["episodes"]] == [3, 2]
    assert found["episodes"][0]["id"] == example(3, words="given").id
    assert main(["episodes", "list", "--outcome", "dropped"]) == 0
    line, end = capsys.readouterr().out.splitlines()
    assert "bed03166840b" in line and "dropped" in line and "lift the red cube" in line
    assert end == "1 of 1 episodes"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--kind", "evaluation"], 3),
        (["--name", "reported"], 3),
        (["--agent", "bed03166840b0dc4", "--goal-task", "pick"], 4),
        (["--condition", '{"words": "given"}'], 1),
        (["--words", "known", "--split", "test", "--suite", "tabletop"], 3),
        (["--source", "live", "--task", "pick"], 1),
        (["--text", "RED"], 4),
        (["--text", "blue"], 0),
    ],
)
def test_filters(table, capsys, arguments, count) -> None:
    assert answer(capsys, "list", *arguments)["count"] == count


def test_one_episode_is_shown_with_all_that_is_known(table, capsys) -> None:
    key = example(1).id
    table.label(key, "odd", "ann")
    Films(table).put(key, b"film")
    found = answer(capsys, "show", key)
    assert found["memberships"] == [{"kind": "evaluation", "name": "reported"}]
    assert found["labels"][0]["label"] == "odd"
    assert Path(found["film"]).read_bytes() == b"film"
    assert found["arrays"] == {
        "actions": [12, 7],
        "predictions": 3,
        "joints": [13, 9],
        "poses": [13, 4, 7],
    }
    assert main(["episodes", "show", key]) == 0
    assert f"id: {key}\n" in capsys.readouterr().out
    assert "no such stored episode" in told(capsys, "show", "nothing")


def test_rates_stand_beside_their_conditions(table, capsys) -> None:
    found = answer(capsys, "rates")["rates"]
    assert [(one["rate"]["successes"], one["rate"]["n"]) for one in found] == [(0, 1), (3, 3)]
    assert found[1]["condition"] == {"words": "known"} and found[1]["drawn"] is True
    assert main(["episodes", "rates", "--words", "given"]) == 0
    line = capsys.readouterr().out
    assert "tabletop pick: 0/1 (0.0%" in line and "scenes picked by people" in line


def test_what_is_exported_can_be_imported(table, capsys, tmp_path, monkeypatch) -> None:
    file = tmp_path / "some.parquet"
    assert answer(capsys, "export", "--out", str(file), "--kind", "evaluation")["episodes"] == 3
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "other"))
    assert answer(capsys, "import", str(file)) == {"new": {str(file): 3}}
    assert answer(capsys, "list")["count"] == 3


def test_a_damaged_table_is_rebuilt(table, home, capsys) -> None:
    table.close()
    (home / "table" / FILE).write_bytes(b"nonsense" * 1000)
    assert "vlm4vla episodes rebuild" in told(capsys, "list")
    found = answer(capsys, "rebuild")
    assert (found["saved"], found["logged"]) == (0, 1)
    assert Path(found["aside"]).read_bytes() == b"nonsense" * 1000
    assert answer(capsys, "list")["count"] == 1


def test_looking_where_nothing_is_makes_nothing(home, capsys) -> None:
    assert answer(capsys, "list") == {"count": 0, "episodes": []}
    assert main(["episodes", "rates"]) == 0
    assert capsys.readouterr().out == "no episodes\n"
    assert not home.exists()


def test_mistakes_are_told(table, capsys) -> None:
    assert "There is no file /nope.parquet." in told(capsys, "import", "/nope.parquet")
    assert "The limit is a number from 1 to" in told(capsys, "list", "--limit", "0")
    for text in ("{", "[]", '"x"', '{"color": 1}'):
        assert "condition" in told(capsys, "list", "--condition", text)
    values = '{"words": "known", "perturbations": [{"name": "x", "values": [1]}]}'
    assert "`values` of a condition is [1]" in told(capsys, "rates", "--condition", values)
    assert "`max_steps`" in told(capsys, "rates", "--condition", '{"max_steps": 1e400}')
