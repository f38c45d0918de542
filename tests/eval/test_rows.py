from dataclasses import replace

import pytest

from tests.eval.examples import TRIAL
from vlm4vla.errors import UserError
from vlm4vla.eval.rows import Plan, Rows
from vlm4vla.eval.trial import Condition

PLAN = Plan("abc", 100, 3, Condition())
ROW = replace(TRIAL, seed=100, events=((3, "reached"),))


def test_what_was_appended_is_read_back(tmp_path):
    rows = Rows(tmp_path / "new", PLAN)
    rows.append(ROW)
    rows.append(replace(ROW, seed=102, task="push"))
    again = Rows(tmp_path / "new", PLAN)
    assert again.read() == [ROW, replace(ROW, seed=102, task="push")]
    assert again.missing("pick", again.read()) == [101, 102]
    assert again.missing("push", again.read()) == [100, 101]


def test_a_row_cut_off_by_a_crash_is_dropped_and_the_next_is_whole(tmp_path):
    rows = Rows(tmp_path, PLAN)
    rows.append(ROW)
    with open(rows.file, "ab") as file:
        file.write(b'{"task": "pick", "se')
    assert rows.read() == [ROW]
    rows.append(replace(ROW, seed=101))
    assert [row.seed for row in Rows(tmp_path, PLAN).read()] == [100, 101]


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, checkpoint="xyz"),
        replace(PLAN, first_seed=200),
        replace(PLAN, episodes=4),
        replace(PLAN, condition=Condition(alternate=True)),
    ],
)
def test_rows_of_another_evaluation_are_refused(tmp_path, other):
    Rows(tmp_path, PLAN).append(ROW)
    with pytest.raises(UserError, match=r"holds an evaluation with .* Choose another folder"):
        Rows(tmp_path, other)


def test_a_folder_with_foreign_rows_is_refused(tmp_path):
    (tmp_path / "episodes.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="belongs to no evaluation"):
        Rows(tmp_path, PLAN)
