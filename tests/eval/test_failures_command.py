"""`vlm4vla failures`, on a data folder of its own."""

import contextlib
import csv
import json
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION
from tests.suites.tabletop.moved import episode_of
from vlm4vla.cli import main
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.failures import RULES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.delenv("VLM4VLA_LOCAL", raising=False)
    monkeypatch.setattr("vlm4vla.commands.failures.SHIPPED", tmp_path / "none")
    table = EpisodeTable()
    for seed in range(4):
        outcome = "success" if seed == 3 else "not reached"
        table.put(episode_of("pick", steps=2, seed=seed, outcome=outcome), [EVALUATION])
    table.close()
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["failures", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_failures_are_counted_by_task_and_label(capsys) -> None:
    found = told(capsys)
    assert set(found) == {"query", "sentence", "failed", "cells", "facets", "episodes", "kappa"}
    assert (found["failed"]["successes"], found["failed"]["n"], found["episodes"]) == (3, 4, 3)
    [cell] = found["cells"]
    assert (cell["task"], cell["label"], cell["successes"]) == ("pick", "never reached", 3)
    assert main(["failures"]) == 0
    out = capsys.readouterr().out
    assert "pick    never reached   3 of 4 (95 % interval 30 to 95 %)" in out
    assert "0 of these failures are labelled by people." in out


def test_filters_choose_and_files_are_written(capsys, folder: Path) -> None:
    assert told(capsys, "--label", "dropped")["episodes"] == 0
    assert told(capsys, "--x", "-0.3", "0.3", "--y", "-0.3", "0.3")["episodes"] == 3
    assert told(capsys, "--x", "5", "6", "--y", "-0.3", "0.3")["failed"]["n"] == 0
    for form in ("csv", "jsonl"):
        told(capsys, "--task", "pick", "--out", str(folder / f"out.{form}"))
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [line["id"] for line in lines] and len(rows) == 3


def test_a_label_of_a_person_is_kept_and_compared(capsys) -> None:
    key = EpisodeTable().query()[-1].id
    assert told(capsys, "--say", key, "--as", "never reached", "--who", "ann") == {"said": key}
    assert told(capsys)["kappa"]["agreed"] == 1


def test_the_rules_are_told_in_words(capsys) -> None:
    assert list(told(capsys, "--rules")["rules"]) == list(RULES)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--out", "x.txt"], "neither .csv nor .jsonl"),
        (["--check", "x.csv", "--who", "ann", "--out", "x.csv"], "does not end in .json"),
        (["--check", "x.csv"], "Nobody says who labelled"),
        (["--check", "x.csv", "--who", "ann"], "key.json is missing"),
        (["--sheets", "x", "--number", "9"], "9 of 3 failures cannot be drawn"),
        (["--x", "0", "1"], "needs --x and --y"),
        (["--as", "dropped", "--who", "ann"], "--as is of no use without --say"),
        (["--note", "odd"], "--note is of no use without --say"),
        (["--who", "ann"], "--who is of no use without --say or --check"),
        (["--number", "3"], "--number is of no use without --sheets"),
        (["--seed", "0"], "--seed is of no use without --sheets"),
        (["--rules", "--out", "x.csv"], "--rules writes nothing into --out"),
        (["--sheets", "x", "--out", "x.csv"], "--sheets writes nothing into --out"),
        (["--rules", "--sheets", "x"], "--rules and --sheets are two tasks"),
        (["--x", "nan", "nan", "--y", "0", "1"], "is no part of the table"),
        (["--x", "0", "1", "--y", "0", "inf"], "is no part of the table"),
        (["--objects", "4", "two"], "--objects 4 two"),
        (["--objects", "9" * 30], "whole numbers from 0 to 99"),
        (["--say", "gone", "--as", "dropped", "--who", "ann"], "no such stored episode"),
    ],
)
def test_what_makes_no_sense_is_told(capsys, words: list[str], why: str) -> None:
    assert main(["failures", *words]) == 2
    assert why in capsys.readouterr().err


def test_sheets_are_drawn_once_and_their_labels_compared(
    capsys, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def sheet(episode, environment, title: str) -> bytes:
        drawn.append(title)
        return b"a picture"

    monkeypatch.setattr("vlm4vla.commands.failures._simulator", contextlib.nullcontext)
    monkeypatch.setattr("vlm4vla.commands.failures.contact_sheet", sheet)
    to = folder / "to label"
    words = ["--sheets", str(to), "--number", "3"]
    assert told(capsys, *words) == {"sheets": 3, "drawn_from": 3, "folder": str(to)}
    (to / "sheets" / "002.png").unlink()
    told(capsys, *words)
    assert drawn == ["001", "002", "003", "002"]
    text = (to / "labels-blank.csv").read_text().replace(",,", ",never reached,")
    (to / "filled.csv").write_text(text)
    out = folder / "kappa.json"
    words = ["--check", str(to / "filled.csv"), "--who", "ann, a student", "--out", str(out)]
    found = told(capsys, *words)["check"]
    assert (found["n"], found["agreed"], found["kappa"]) == (3, 3, None)
    assert found["pairs"] == [{"automatic": "never reached", "person": "never reached", "n": 3}]
    assert json.loads(out.read_text())["who"] == "ann, a student"
    assert str(folder) not in out.read_text()
    assert main(["failures", *words]) == 0
    assert "3 of 3 alike; Cohen's kappa is not defined" in capsys.readouterr().out
