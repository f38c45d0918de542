"""Scenes worked out by hand: x away from the robot, y to its left; people look from +x."""

from pathlib import Path

from vlm4vla.language.things import Thing


def thing(name: str, x: float, y: float) -> Thing:
    colour, kind = name.split(" ")
    return Thing(name, colour, kind, x, y, kind in ("cube", "ball", "cylinder"))


SCENES = {
    "o": (
        thing("red cube", -0.15, -0.10),
        thing("blue cube", 0.05, 0.10),
        thing("green cylinder", -0.05, 0.0),
        thing("blue ball", -0.17, 0.04),
    ),
    "c": (
        thing("red cube", -0.15, -0.12),
        thing("blue cube", 0.07, 0.08),
        thing("yellow ball", -0.04, -0.12),
        thing("green plate", -0.12, 0.10),
        thing("purple bowl", 0.05, -0.04),
    ),
    "z": (
        thing("red cube", -0.15, -0.03),
        thing("blue cylinder", -0.05, 0.02),
        thing("yellow ball", 0.05, 0.0),
        thing("green zone", -0.05, 0.135),
        thing("purple zone", -0.05, -0.135),
    ),
}


def goals_of(things: tuple[Thing, ...]) -> list[tuple[str, str, str | None]]:
    """Every goal among some things: places take anything, and flat things carry flat things."""
    movable = [thing for thing in things if thing.movable]
    found: list[tuple[str, str, str | None]] = []
    for item in movable:
        found += [("reach", item.name, None), ("pick", item.name, None)]
        for other in things:
            if not other.movable:
                task = "push" if other.kind == "zone" else "place"
                found.append((task, item.name, other.name))
            elif item != other and "ball" not in (item.kind, other.kind):
                found.append(("stack", item.name, other.name))
    return found


def listed() -> list[tuple[str, str, str]]:
    """(scene, reading, sentence) of every line of sentences.txt."""
    lines = Path(__file__).with_name("sentences.txt").read_text("utf-8").splitlines()
    return [
        tuple(part.strip() for part in line.split("|", 2))
        for line in lines
        if line and not line.startswith("#")
    ]
