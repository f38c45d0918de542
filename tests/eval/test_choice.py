import pytest

from vlm4vla.errors import UserError
from vlm4vla.eval.choice import choose
from vlm4vla.suites.tabletop.scene import sample_scene


def test_a_choice_is_the_scene_of_its_task_and_number() -> None:
    assert choose("push", 7) == ("push", sample_scene("zones", 7))
    assert choose("pick", 99_999.0).scene == sample_scene("objects", 99_999)
    assert choose("pick", 199_999).scene.seed == 199_999


@pytest.mark.parametrize(
    "number",
    [-1, 200_000, 1.5, float("nan"), float("inf"), 10**30, None, "7", True, [], {}],
)
def test_a_number_that_names_no_scene_for_visitors_is_refused(number: object) -> None:
    with pytest.raises(UserError, match="0 to 199,999"):
        choose("pick", number)


@pytest.mark.parametrize("task", ["stock", "", None, "../pick", ["pick"]])
def test_an_unknown_task_is_refused(task: object) -> None:
    with pytest.raises(UserError, match="no such task"):
        choose(task, 0)
