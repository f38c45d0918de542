"""`vlm4vla.attribution.trust_check`."""

import json
import math
from typing import Any

import pytest

from vlm4vla.attribution.trust_check import compare, lines_of, shipped_table
from vlm4vla.errors import UserError


def mean(value: float | None, half: float, n: int = 100) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - half, value + half)
    return {"n": n, "mean": value, "low": ends[0], "high": ends[1]}


def row(method: str = "occlusion", **changes: Any) -> dict[str, Any]:
    values = {
        "when": "first",
        "target": "gripper",
        "method": method,
        "deletion": mean(8.0, 3.0),
        "insertion": mean(18.0, 4.0),
        "infidelity": mean(0.3, 0.05),
        "points_at_object": {"n": 100, "successes": 12, "rate": 0.12, "low": 0.07, "high": 0.2},
        "collapse": mean(None, 0.0, n=0),
        "mass": {"object": mean(0.05, 0.01)},
    }
    return {**values, **changes}


def test_differences_have_the_interval_of_both() -> None:
    # 3-4-5: half widths of 3 and 4 make one of 5.
    checks = compare([row()], [row(deletion=mean(12.9, 4.0))])
    by_name = {one.measure: one for one in checks}
    # Nothing was randomised, so there is no collapse to compare.
    assert list(by_name) == [
        "deletion",
        "insertion",
        "infidelity",
        "pointing",
        "mass",
    ]
    deletion = by_name["deletion"]
    assert (deletion.low, deletion.high) == (pytest.approx(-0.1), pytest.approx(9.9))
    assert deletion.holds
    pointing = by_name["pointing"]
    # Wilson intervals are lopsided: each end takes the other table's far side.
    assert pointing.low == pytest.approx(-math.hypot(0.05, 0.08))
    assert lines_of(checks) == [
        "5 of 5 measures agree with the shipped table: the 95 % interval of the difference holds "
        "0. By chance alone about 0 would not."
    ]


def test_what_differs_is_named_and_what_only_one_table_has_is_left_out() -> None:
    other = row("rollout")
    checks = compare([row(), other], [row(deletion=mean(13.1, 4.0)), row("gradient")])
    assert [one.measure for one in checks if not one.holds] == ["deletion"]
    first, last = lines_of(checks)
    assert first.startswith("first, gripper, occlusion: deletion is 13.1 here and 8 in the shipped")
    assert last.startswith("4 of 5 measures agree")


def test_a_table_is_found_by_its_checkpoint(tmp_path: Any) -> None:
    told = {"checkpoint": "ab12", "rows": [], "command": "", "episodes": 1, "randomised": 0}
    (tmp_path / "trust-a.json").write_text(json.dumps(told))
    assert shipped_table("ab12", tmp_path).name == "a"
    with pytest.raises(UserError, match="cd34 is shipped"):
        shipped_table("cd34", tmp_path)
    # The shipped ones can be told apart and hold what is compared.
    shipped = shipped_table("bed03166840b0dc4")
    checks = compare(shipped.rows, shipped.rows)
    assert len(checks) > 100 and all(one.holds for one in checks)
