import pytest

from vlm4vla.agents.several import each_once
from vlm4vla.errors import UserError


def test_each_is_measured_once_however_it_was_named() -> None:
    named = [("a", "1"), ("b", "2"), ("a", "1"), ("runs/a", "1")]
    assert each_once(named, lambda one: one) == [("a", "1"), ("b", "2")]


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="Two different checkpoints are called checkpoint"):
        each_once([("checkpoint", "1"), ("checkpoint", "2")], lambda one: one)
