"""What the card offers to copy does what the card says."""

import argparse
import ast
import shlex
from dataclasses import replace
from typing import Any

from pages.run.result_card import card
from tests.eval.examples import EPISODE, SPEC
from vlm4vla.cli import COMMANDS
from vlm4vla.commands import rollout
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import Outcome
from vlm4vla.episodes.rates import Standing
from vlm4vla.statistics import wilson

ASKED = replace(
    SPEC,
    seed=3,
    instruction="--lift the 'red' \"cube\"",
    condition=Condition(GIVEN, max_steps=40, replan_every=2),
)
DROPPED = replace(EPISODE, spec=ASKED, outcome=Outcome("dropped", "No."), steps=40)


def offered(name: str = "expert") -> dict[str, Any]:
    return card(DROPPED, Standing(wilson(3, 4), "in an evaluation"), "data:,", name)


def test_the_copied_command_names_the_same_episode() -> None:
    program, command, *arguments = shlex.split(offered()["command"])
    assert program == "vlm4vla"
    assert command in COMMANDS
    parser = argparse.ArgumentParser()
    rollout.add_arguments(parser)
    asked = parser.parse_args(arguments)
    assert (asked.task, asked.seed, asked.instruction) == ("pick", 3, ASKED.instruction)
    assert (asked.most_steps, asked.execute, asked.expert) == (40, 2, True)
    parts = shlex.split(offered("a b")["command"])
    assert parts[2:4] == ["--checkpoint", "a b"]


def test_the_copied_programs_are_python_that_holds_the_same_sentence() -> None:
    for kind in ("python", "client"):
        nodes = ast.walk(ast.parse(offered()[kind]))
        strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert {"pick", 3, ASKED.instruction, "expert", 40, 2} <= strings


def test_an_agent_that_is_gone_has_no_programs_to_copy() -> None:
    assert not {"command", "python", "client"} & offered("").keys()


def test_a_failure_is_called_by_its_kind_and_the_rate_has_its_interval() -> None:
    told = offered()
    assert told["title"] == "Not done: dropped"
    assert told["facts"][-1][1] == "3 of 4 (95 % interval 30 to 95 %) in an evaluation"
