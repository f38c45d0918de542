import pytest

from vlm4vla.errors import UserError
from vlm4vla.registry import Registry


@pytest.fixture
def tasks() -> Registry[int]:
    registry: Registry[int] = Registry("task")
    for number, name in enumerate(["reach", "pick", "place"]):
        registry.add(name, number)
    return registry


def test_names_come_in_registration_order_and_by_pattern(tasks: Registry[int]) -> None:
    assert tasks.names() == list(tasks) == ["reach", "pick", "place"]
    assert tasks.names("p*") == ["pick", "place"]
    assert "pick" in tasks
    assert "stack" not in tasks


def test_an_unknown_name_lists_the_known_ones_and_the_closest(tasks: Registry[int]) -> None:
    with pytest.raises(UserError) as caught:
        tasks.get("plce")
    assert "'plce'" in caught.value.problem
    assert "reach, pick, place" in caught.value.problem
    assert caught.value.fix == "Did you mean 'place'?"


def test_a_name_that_resembles_none_gets_no_suggestion(tasks: Registry[int]) -> None:
    with pytest.raises(UserError) as caught:
        tasks.get("zzz")
    assert caught.value.fix == ""


def test_a_name_is_taken_once(tasks: Registry[int]) -> None:
    with pytest.raises(ValueError, match="twice"):
        tasks.add("pick", 7)
    assert tasks.get("pick") == 1


def test_the_decorator_registers_and_returns_its_function() -> None:
    registry: Registry[object] = Registry("family")

    @registry.register("plain")
    def plain() -> int:
        return 3

    assert plain() == 3
    assert registry.get("plain") is plain
