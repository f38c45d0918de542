"""What a visitor may change about an episode besides the scene and the sentence."""

import re
from dataclasses import dataclass
from typing import Final

from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.tasks import TIME_LIMIT

MOST_STEPS: Final = max(TIME_LIMIT.values())
"""No task lasts longer, so this many steps change nothing."""

FEWEST_STEPS: Final = 5

_CAPPED: Final = re.compile(r"at most (\d{1,3}) steps")
_EXECUTED: Final = re.compile(r"(\d{1,2}) actions? a look")


@dataclass(frozen=True)
class Settings:
    """The changes; 0 stands for no change.

    Attributes:
        most_steps: control steps after which the episode is ended.
        execute: actions carried out before the next look.
    """

    most_steps: int = 0
    execute: int = 0

    @property
    def condition(self) -> str:
        """The changes in words that `read_settings` understands; "" for none."""
        parts = []
        if self.most_steps:
            parts.append(f"at most {self.most_steps} steps")
        if self.execute:
            parts.append(f"{self.execute} action{'s' * (self.execute > 1)} a look")
        return ", ".join(parts)


def check_settings(
    most_steps: object, execute: object, *, limit: int, chunk: int, usual: int
) -> Settings:
    """Checks what came from outside; a value that changes nothing becomes 0.

    Args:
        most_steps: a whole number, or 0 for no change.
        execute: a whole number, or 0 for no change.
        limit: steps after which the task ends anyway.
        chunk: actions that the driver plans at once.
        usual: actions that the driver carries out before it looks again.

    Raises:
        UserError: either is something else.
    """
    steps = _whole(most_steps, "The most steps", FEWEST_STEPS, MOST_STEPS)
    actions = _whole(execute, "The actions carried out before the next look", 1, chunk)
    return Settings(steps if steps < limit else 0, actions if actions != usual else 0)


def read_settings(condition: str) -> Settings:
    """The settings in a stored condition; see `Settings.condition`."""
    steps, actions = _CAPPED.search(condition), _EXECUTED.search(condition)
    return Settings(int(steps[1]) if steps else 0, int(actions[1]) if actions else 0)


def _whole(value: object, name: str, least: int, most: int) -> int:
    if value is None:
        return 0
    # A bool is an int to Python.
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if number != 0 and number not in range(least, most + 1):
        raise UserError(f"{name} must be a whole number from {least} to {most}.", "Correct it.")
    return int(number)
