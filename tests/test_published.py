"""What others rely on is there, and docs/architecture.md names the test of each."""

import argparse
import ast
import hashlib
import importlib
import json
import re
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, quoted, table
from vlm4vla.agents.catalogue import SHIPPED, AgentCatalogue
from vlm4vla.cli import COMMANDS, main

TABLES = ("commands", "json", "endpoints", "links", "checkpoints")


def rows(name: str) -> list[list[str]]:
    """Rows of a published table: names, what belongs to them, the test."""
    found = [[*map(quoted, row)] for row in table(name)]
    assert found
    return found


@pytest.mark.parametrize("name", TABLES)
def test_every_published_name_has_its_test(name: str) -> None:
    for names, *_, [test] in rows(name):
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in tests, f"{names}: there is no {test}"


def words(parser: argparse.ArgumentParser) -> set[str]:
    """Everything that a command may be told by name."""
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= {name} | words(below)
        else:
            found |= {*action.option_strings} or {action.dest}
    return found


PUBLISHED = {names[0]: set(flags) for names, flags, _ in rows("commands")}


def test_every_command_is_published() -> None:
    assert set(PUBLISHED) == set(COMMANDS)


@pytest.mark.parametrize("command", PUBLISHED)
def test_a_command_takes_what_is_published(command: str) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"vlm4vla.commands.{command}").add_arguments(parser)
    assert PUBLISHED[command] - words(parser) == set()


def test_the_apps_endpoints_and_their_parameters_are_published() -> None:
    tree = ast.parse((ROOT / "pages" / "api.py").read_text("utf-8"))
    [build] = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build"]
    [loop] = [node for node in build.body if isinstance(node, ast.For)]
    assert isinstance(loop.iter, ast.Tuple)
    public = {ast.unparse(one) for one in loop.iter.elts}
    functions = {node.name: node for node in build.body if isinstance(node, ast.FunctionDef)}
    found = {
        name: [one.arg for one in functions[name].args.args if one.arg != "request"]
        for name in public
    }
    assert found == {names[0]: parameters for names, parameters, _ in rows("endpoints")}


def test_train_prints_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "vlm4vla.commands.train.run_language", lambda *args, **options: tmp_path / "vlm"
    )
    assert main(["train", "language", "--out", str(tmp_path), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == {"stage": "language", "result": str(tmp_path / "vlm")}


def test_the_shipped_checkpoints_are_published() -> None:
    there = {one.name for one in SHIPPED.iterdir() if one.is_dir()}
    assert there == {names[0] for names, *_ in rows("checkpoints")}


def test_the_other_shipped_policies_are_what_was_measured() -> None:
    catalogue = AgentCatalogue()
    _, *others, _ = catalogue.names()
    digests = {name: catalogue.entry(name).identity.digest for name in others}
    # Those of the episodes that docs/results.md counts.
    assert digests == {
        "internvl-tiny": "741255c39bc7f6e1",
        "paligemma-tiny": "20b657d6b70a3c90",
        "qwen3vl-tiny": "bed03166840b0dc4",
    }


def test_the_shipped_policy_loads_as_what_it_was_evaluated_as(tmp_path: Path) -> None:
    catalogue = AgentCatalogue()
    first = catalogue.names()[0]
    assert first == "qwen3vl-broad-tiny"
    entry = catalogue.entry(first)
    evaluated = catalogue.evaluation(first)
    assert entry.identity.digest == evaluated["checkpoint"]
    assert set(evaluated["tasks"]) == {"reach", "pick", "push", "place", "stack"}
    assert (entry.chunk, entry.replan_every) == (4, 4)


def test_the_shipped_vlm_loads() -> None:
    from vlm4vla.model.load import load_vlm  # takes seconds: torch

    assert load_vlm(str(SHIPPED / "vlm-init")).family.name == "qwen3-vl"


MOST_SHIPPED = 150 * 2**20
"""Bytes of all checkpoints together: a clone should take no longer than a coffee."""


def test_shipped_weights_are_few_bytes_in_half_precision_and_each_is_there_once() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < MOST_SHIPPED
    weights = sorted(SHIPPED.rglob("*.safetensors"))
    assert weights
    copies: dict[str, Path] = {}
    for file in weights:
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        assert {one["dtype"] for one in header.values()} == {"F16"}, file
        digest = hashlib.sha256(content).hexdigest()
        assert digest not in copies, f"{file} is {copies.get(digest)} again"
        copies[digest] = file
    others = {file.suffix for file in SHIPPED.rglob("*") if file.is_file()}
    assert others <= {".json", ".safetensors", ".md", ".parquet", ".png", ".jinja"}


def test_nothing_that_is_shipped_names_anybodys_folders() -> None:
    files = [file for name in ("assets", "checkpoints") for file in (ROOT / name).rglob("*.json")]
    folder = re.compile(r"(?<![\w~$.}/])/(root|home|work|tmp|Users)/")
    found = [file for file in files if folder.search(file.read_text("utf-8"))]
    assert files and found == []
