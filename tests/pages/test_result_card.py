"""What the card offers to copy does what the card says."""

import argparse
import ast
import shlex
from typing import Any

from pages.result_card import card
from vlm4vla.cli import COMMANDS
from vlm4vla.commands import rollout
from vlm4vla.eval.store import Record
from vlm4vla.statistics import wilson

RECORD = Record("expert", "pick", 3, "lift the 'red' \"cube\"", "", "dropped", "No.", 60, ())


def offered() -> dict[str, Any]:
    return card(RECORD, wilson(3, 4), "data:,")


def test_the_copied_command_names_the_same_episode() -> None:
    program, command, *arguments = shlex.split(offered()["command"])
    assert program == "vlm4vla"
    assert command in COMMANDS
    parser = argparse.ArgumentParser()
    rollout.add_arguments(parser)
    asked = parser.parse_args(arguments)
    assert (asked.task, asked.seed, asked.instruction) == ("pick", 3, RECORD.instruction)
    assert asked.expert


def test_the_copied_programs_are_python_that_holds_the_same_sentence() -> None:
    for kind in ("python", "client"):
        nodes = ast.walk(ast.parse(offered()[kind]))
        strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert {"pick", 3, RECORD.instruction} <= strings


def test_a_failure_is_called_by_its_kind_and_the_rate_has_its_interval() -> None:
    told = offered()
    assert told["title"] == "Not done: dropped"
    assert told["facts"][-1][1] == "3 of 4 episodes kept here (95 % interval 30 to 95 %)"
