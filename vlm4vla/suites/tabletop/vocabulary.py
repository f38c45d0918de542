"""What things are called, and what the names look like."""

from typing import Final, Literal

Shape = Literal["cube", "ball", "cylinder"]
Fixture = Literal["zone", "plate", "bowl"]

SHAPES: Final[tuple[Shape, ...]] = ("cube", "ball", "cylinder")
FIXTURES: Final[tuple[Fixture, ...]] = ("zone", "plate", "bowl")

COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "red": (0.80, 0.03, 0.03),
    "green": (0.03, 0.50, 0.06),
    "blue": (0.02, 0.10, 0.75),
    "yellow": (0.90, 0.75, 0.02),
    "purple": (0.35, 0.03, 0.55),
    "orange": (0.95, 0.25, 0.01),
}
"""Base colours in linear RGB, 0 to 1, as the renderer takes them."""

ROBOT: Final = "robotic arm"
"""What prompts call the robot; built like the names of things."""


def colour_of(name: str) -> str:
    """The colour word of a name: "red cube" gives "red"."""
    return name.split(" ")[0]


def kind_of(name: str) -> str:
    """The shape or fixture word of a name: "red cube" gives "cube"."""
    return name.split(" ")[1]
