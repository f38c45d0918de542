import sys
from subprocess import run

import pytest

from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import EpisodeSpec, Event
from vlm4vla.errors import UserError
from vlm4vla.suites.maniskill.suite import INSTRUCTIONS, instructed
from vlm4vla.suites.registry import MANISKILL, SUITES


def test_every_stock_environment_is_a_task_with_its_own_sentence():
    assert SUITES.get("maniskill") is MANISKILL
    assert set(MANISKILL.tasks) == set(INSTRUCTIONS)
    spec = MANISKILL.spec("StackCube-v1", 4, Condition())
    assert spec == EpisodeSpec(
        "maniskill",
        "StackCube-v1",
        4,
        "stack the red cube on the green cube",
        {"task": "StackCube-v1"},
    )
    assert MANISKILL.limit(spec) == 100


def test_an_unknown_environment_needs_a_sentence_and_none_has_a_second_goal():
    with pytest.raises(UserError, match="No instruction is known for 'Juggle-v1'"):
        MANISKILL.spec("Juggle-v1", 0, Condition())
    given = instructed("Juggle-v1", 0, "juggle", Condition(words="given"))
    assert (given.task, given.instruction) == ("Juggle-v1", "juggle")
    with pytest.raises(UserError, match="one goal of its own"):
        MANISKILL.spec("StackCube-v1", 0, Condition(goal="alternate"))


def test_outcomes_by_hand():
    spec = MANISKILL.spec("PickCube-v1", 0, Condition())
    won = MANISKILL.tell(spec, [Event(30, "success")], 30)
    assert won.kind == "success" and "PickCube-v1 asks for in 30 steps (1.5 s" in won.sentence
    lost = MANISKILL.tell(spec, [Event(100, "timeout")], 100)
    assert lost.kind == "out of time" and "After 100 steps (5.0 s" in lost.sentence
    stopped = MANISKILL.tell(spec, [], 7, stopped=True)
    assert (stopped.kind, stopped.sentence) == ("stopped", "Stopped after 7 steps.")
    assert MANISKILL.tell(spec, [Event(7, "success")], 7, stopped=True).success


KNOWN_WITHOUT_A_SIMULATOR = """
import sys
from vlm4vla.core.condition import Condition
from vlm4vla.suites.registry import SUITES
for name, task in (("tabletop", "pick"), ("maniskill", "PickCube-v1")):
    suite = SUITES.get(name)
    suite.tell(suite.spec(task, 1, Condition()), (), 3, stopped=True)
print(sorted({"torch", "sapien", "mani_skill", "gymnasium"} & set(sys.modules)))
"""


def test_what_is_asked_and_how_it_is_judged_needs_no_simulator():
    found = run(
        [sys.executable, "-c", KNOWN_WITHOUT_A_SIMULATOR],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == "[]"
