from typing import Any

import pytest

from vlm4vla.errors import UserError
from vlm4vla.eval.settings import Settings, check_settings, read_settings


def check(most_steps: Any, execute: Any) -> Settings:
    return check_settings(most_steps, execute, limit=60, chunk=4, usual=4)


@pytest.mark.parametrize(
    ("given", "kept", "said"),
    [
        ((0, 0), Settings(), ""),
        ((None, None), Settings(), ""),
        ((40, 1), Settings(40, 1), "at most 40 steps, 1 action a look"),
        ((40.0, 2), Settings(40, 2), "at most 40 steps, 2 actions a look"),
        # What changes nothing must not make another run id.
        ((60, 4), Settings(), ""),
        ((100, 4), Settings(), ""),
    ],
)
def test_settings_are_checked_and_read_back(given: Any, kept: Settings, said: str) -> None:
    assert check(*given) == kept
    assert kept.condition == said
    assert read_settings(f"unknown sentence, {said}") == kept


@pytest.mark.parametrize(
    "given",
    [
        *[(steps, 0) for steps in (4, 101, -1, 7.5, float("nan"), float("inf"), True, "9", [9])],
        *[(0, actions) for actions in (5, -1, "2", 1e300)],
    ],
)
def test_nonsense_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match="whole number from"):
        check(*given)
