from dataclasses import replace

from tests.eval.examples import EPISODE
from vlm4vla.core.episode import Outcome
from vlm4vla.eval.metrics import describe, summarise, table

WON = EPISODE
LOST = replace(EPISODE, outcome=Outcome("wrong object", "No.", {"wrong_object": True}))
OLD = replace(EPISODE, outcome=Outcome("out of time", "No.", {"old_goal_done": True}))


def test_summary_by_hand() -> None:
    row = summarise([WON] * 8 + [LOST, OLD])
    assert (row["n"], row["successes"], row["rate"]) == (10, 8, 0.8)
    # Wilson's interval for 8 of 10, from its closed form.
    assert row["ci95"] == [0.4902, 0.9433]
    assert row["wrong_object"] == row["old_goal_done"] == 0.1
    assert describe("pick", row) == (
        "pick: 8/10 (80.0%, 95 % interval 49.0% to 94.3%), wrong object 10.0%, old goal done 10.0%"
    )
    header, line = table({"pick": row})
    assert len(header) == len(line)
    assert line.split() == ["pick", "10", "80.0%", "49.0%", "to", "94.3%", "10.0%", "10.0%"]
