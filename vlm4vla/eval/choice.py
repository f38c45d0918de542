"""What a visitor chose to see: a task and a scene number, checked."""

from typing import NamedTuple

from vlm4vla import seeds
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, TASKS, Scene, sample_scene


class Choice(NamedTuple):
    """A scene, and the task that its suggested instructions are about."""

    task: Task
    scene: Scene


def choose(task: object, number: object) -> Choice:
    """Checks what came from outside, and draws the scene.

    Args:
        task: one of `TASKS`.
        number: a seed among `vlm4vla.seeds.UNSEEN`, as a whole number of any numeric type.

    Raises:
        UserError: either is something else.
    """
    known = next((name for name in TASKS if name == task), None)
    if known is None:
        raise UserError("There is no such task.", f"Choose one of {', '.join(TASKS)}.")
    # A bool is an int to Python.
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or number not in seeds.UNSEEN
    ):
        raise UserError(
            f"The scene number must be a whole number from 0 to {seeds.UNSEEN[-1]:,}.",
            "Correct it, or take a new scene.",
        )
    return Choice(known, sample_scene(LAYOUT_OF_TASK[known], int(number)))
