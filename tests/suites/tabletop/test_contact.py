"""Contact from poses, against distances worked out by hand."""

import numpy as np
import pytest

from vlm4vla.suites.tabletop.contact import gap, in_contact
from vlm4vla.suites.tabletop.types import State


def state(name: str, middle: tuple[float, float, float], opening: float = 0.08) -> State:
    """An object 4 cm wide, and finger tips 10 cm above the table's middle."""
    return State(
        tcp=np.array([0, 0, 0.10], np.float32),
        velocity=np.zeros(3, np.float32),
        opening=opening,
        names=(name,),
        positions=np.array([middle], np.float32),
        sizes=np.array([0.04], np.float32),
        movable=1,
    )


@pytest.mark.parametrize(
    ("name", "middle", "opening", "away"),
    [
        # Between open fingers: 4 cm of finger from the middle, 2 cm of object.
        ("red cube", (0, 0, 0.10), 0.08, 0.02),
        ("red ball", (0, 0, 0.11), 0.08, 0.02),
        ("red cylinder", (0, 0, 0.10), 0.08, 0.02),
        # Closed on it.
        ("red cube", (0, 0, 0.11), 0.04, 0.0),
        # Below the tips, 5 cm from its middle to them, under the left finger.
        ("red cube", (0, 0.045, 0.05), 0.08, 0.03),
        ("red ball", (0, 0.045, 0.05), 0.08, 0.03),
        # In front of a finger, which is 1.8 cm wide, and below it: 3 and 4 cm to the nearest edge.
        ("red ball", (0.039, 0.045, 0.06), 0.08, 0.03),
        ("red cylinder", (0.039, 0.045, 0.06), 0.08, np.hypot(0.01, 0.02)),
        ("red cube", (0.039, 0.045, 0.06), 0.08, np.hypot(0.01, 0.02)),
        # Beside the outer face of the right finger, which is 1.5 cm thick.
        ("red ball", (0, -0.085, 0.12), 0.08, 0.01),
    ],
)
def test_the_gap_is_that_of_the_surfaces(
    name: str, middle: tuple[float, float, float], opening: float, away: float
) -> None:
    found = state(name, middle, opening)
    assert gap(found, name) == pytest.approx(away, abs=1e-6)
    assert in_contact(found, name) == (away < 0.002)


def test_two_millimetres_are_the_limit() -> None:
    assert in_contact(state("red cube", (0, 0, 0.11), 0.0438), "red cube")
    assert not in_contact(state("red cube", (0, 0, 0.11), 0.0442), "red cube")
