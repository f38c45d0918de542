"""Questions and answers about pictures, in words that the instructions use too.

Answers begin with a space, so that a colour or a kind is the same token in an answer as in a
sentence; two location tokens, one across and one down, name a point.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from vlm4vla.language.known import TEMPLATES
from vlm4vla.suites.tabletop.instructions import Goal, paraphrases
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, SHAPES, colour_of, kind_of
from vlm4vla.train.drawings import PIXELS, Item, Picture

CELLS: Final = 32
"""Location tokens along an axis."""

ACROSS: Final = tuple(f"<across_{cell:02d}>" for cell in range(CELLS))
DOWN: Final = tuple(f"<down_{cell:02d}>" for cell in range(CELLS))
LOCATIONS: Final = ACROSS + DOWN
"""Each axis has tokens of its own, so that a patch can be told both places of a thing at once."""

NOTHING: Final = "nothing"
"""The word for a patch that shows no named thing."""

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_APART: Final = 6.0
"""Two centres must differ by this many pixels before one is said to be left of the other."""


@dataclass(frozen=True)
class Question:
    """A question about one picture.

    Attributes:
        kind: which skill it asks for, a key of `KINDS`.
        text: what the user says.
        answer: what the model should write, without the closing token.
    """

    kind: str
    text: str
    answer: str


def location(item: Item) -> str:
    """The two location tokens of a thing's centre."""
    across, down = cell_of(item)
    return ACROSS[across] + DOWN[down]


def cell_of(item: Item) -> tuple[int, int]:
    """The cell across and down that a centre falls into, each within 0..31."""
    across = int(np.clip(item.x * CELLS / PIXELS, 0, CELLS - 1))
    return across, int(np.clip(item.y * CELLS / PIXELS, 0, CELLS - 1))


def ask(
    picture: Picture, kind: str, rng: np.random.Generator, *, held_out: bool = False
) -> Question | None:
    """Draws a question of one kind, or None where the picture does not allow it.

    Args:
        picture: what it is about.
        kind: a key of `KINDS`.
        rng: what is drawn from.
        held_out: build instructions from the held-out paraphrases.
    """
    return KINDS[kind].ask(picture.items, rng, held_out)


def ask_several(
    picture: Picture, count: int, rng: np.random.Generator, *, lengthy: bool
) -> list[Question]:
    """Draws questions about one picture, kinds in the proportions of `KINDS`.

    In half of the draws of brief ones they point at different things: two names in one picture
    are what tells apart knowing where something is from knowing where the named thing is.

    Args:
        picture: what they are about.
        count: how many.
        rng: what is drawn from.
        lengthy: draw from the kinds with long sentences, or from the others. Rows of a batch are
            padded to the longest, so the two are better not mixed.
    """
    if not lengthy and len(picture.items) >= count and rng.random() < 0.5:
        pointing = every_pointing(picture)
        return [pointing[int(i)] for i in rng.permutation(len(pointing))[:count]]
    names = [name for name, kind in KINDS.items() if kind.lengthy == lengthy]
    shares = np.array([KINDS[name].share for name in names])
    asked: list[Question] = []
    while len(asked) < count:
        kind = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        question = ask(picture, kind, rng)
        if question is not None:
            asked.append(question)
    return asked


def every_pointing(picture: Picture) -> list[Question]:
    """One pointing question for each named thing, in the picture's order."""
    return [Question("pointing", _point(item.name), location(item)) for item in picture.items]


def corpus() -> Iterator[str]:
    """Every kind of sentence at least once, with every name: what a tokenizer learns from.

    Training templates only: held-out sentences are made of the same words.
    """
    rng = np.random.default_rng(0)
    objects = [f"{colour} {kind}" for colour in COLOURS for kind in SHAPES]
    places = [f"{colour} {kind}" for colour in COLOURS for kind in FIXTURES]
    for name in objects:
        yield from paraphrases(Goal("reach", name))
        yield from paraphrases(Goal("pick", name))
    for name, place in product(objects[::2], places[::2]):
        yield from paraphrases(Goal("push", name, place))
        yield from paraphrases(Goal("place", name, place))
    for name, other in product(objects[::2], objects[1::2]):
        yield from paraphrases(Goal("stack", name, other))
    for start in range(60):
        names = rng.permutation(objects + places)[:5]
        items = tuple(
            Item(str(name), *map(float, rng.uniform(0, PIXELS, size=2))) for name in names
        )
        for kind in KINDS:
            for _ in range(4):
                question = KINDS[kind].ask(items, rng, False)
                if question is not None:
                    # The closing of a sentence is a special token, so words never meet it.
                    yield _without_locations(question.text)
                    yield _without_locations(question.answer)
        yield f" {_NUMBERS[start % len(_NUMBERS)]} {NOTHING}"


def _without_locations(text: str) -> str:
    for token in LOCATIONS:
        text = text.replace(token, "")
    return text


_Items = tuple[Item, ...]
_Ask = Callable[[_Items, np.random.Generator, bool], Question | None]


@dataclass(frozen=True)
class Kind:
    """One kind of question.

    Attributes:
        ask: how it is drawn.
        share: among the kinds that are as long.
        lengthy: its questions or answers are long.
    """

    ask: _Ask
    share: float
    lengthy: bool = False


def _pick(rng: np.random.Generator, among: Iterable[str]) -> str:
    options = list(among)
    return options[int(rng.integers(len(options)))]


def _any(rng: np.random.Generator, items: _Items) -> Item:
    return items[int(rng.integers(len(items)))]


def _only(items: _Items, word: Callable[[str], str]) -> _Items:
    """The things whose colour (or kind) nothing else in the picture has."""
    words = [word(item.name) for item in items]
    return tuple(item for item in items if words.count(word(item.name)) == 1)


def _a(name: str) -> str:
    """The name with its article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _point(name: str) -> str:
    return f"Point at the {name}."


def _ask_pointing(items: _Items, rng: np.random.Generator, held_out: bool) -> Question:
    item = _any(rng, items)
    return Question("pointing", _point(item.name), location(item))


def _ask_naming(items: _Items, rng: np.random.Generator, held_out: bool) -> Question:
    item = _any(rng, items)
    return Question("naming", f"What is at {location(item)}?", f" {item.name}")


def _ask_colour(items: _Items, rng: np.random.Generator, held_out: bool) -> Question | None:
    clear = _only(items, kind_of)
    if not clear:
        return None
    item = _any(rng, clear)
    text = f"What colour is the {kind_of(item.name)}?"
    return Question("colour", text, f" {colour_of(item.name)}")


def _ask_shape(items: _Items, rng: np.random.Generator, held_out: bool) -> Question | None:
    clear = _only(items, colour_of)
    if not clear:
        return None
    item = _any(rng, clear)
    text = f"What is the {colour_of(item.name)} thing?"
    return Question("shape", text, f" {kind_of(item.name)}")


def _ask_count(items: _Items, rng: np.random.Generator, held_out: bool) -> Question:
    if rng.random() < 0.5:
        kind = _pick(rng, (*SHAPES, *FIXTURES))
        number = sum(kind_of(item.name) == kind for item in items)
        return Question("count", f"How many {kind}s are there?", f" {_NUMBERS[number]}")
    colour = _pick(rng, COLOURS)
    number = sum(colour_of(item.name) == colour for item in items)
    return Question("count", f"How many {colour} things are there?", f" {_NUMBERS[number]}")


def _ask_existence(items: _Items, rng: np.random.Generator, held_out: bool) -> Question:
    """Half are there; most of the others share a colour or a kind with something that is."""
    names = {item.name for item in items}
    item = _any(rng, items)
    if rng.random() < 0.5:
        return Question("existence", f"Is there {_a(item.name)}?", " yes")
    while True:
        name = f"{_pick(rng, COLOURS)} {kind_of(item.name)}"
        if rng.random() < 0.5:
            name = f"{colour_of(item.name)} {_pick(rng, (*SHAPES, *FIXTURES))}"
        if name not in names:
            return Question("existence", f"Is there {_a(name)}?", " no")


def _ask_relation(items: _Items, rng: np.random.Generator, held_out: bool) -> Question | None:
    if len(items) < 2:
        return None
    first, second = (items[int(i)] for i in rng.permutation(len(items))[:2])
    # Down in the picture is nearer to the camera.
    relation, difference = [
        ("left of", second.x - first.x),
        ("right of", first.x - second.x),
        ("nearer than", first.y - second.y),
        ("farther than", second.y - first.y),
    ][int(rng.integers(4))]
    if abs(difference) < _APART:
        return None
    text = f"Is the {first.name} {relation} the {second.name}?"
    return Question("relation", text, " yes" if difference > 0 else " no")


def _ask_caption(items: _Items, rng: np.random.Generator, held_out: bool) -> Question:
    ordered = sorted(items, key=lambda item: item.x)
    listed = ", ".join(_a(item.name) for item in ordered)
    return Question("caption", "What is there, from left to right?", f" {listed}")


def _ask_first(items: _Items, rng: np.random.Generator, held_out: bool) -> Question | None:
    """Points at the object of an instruction."""
    drawn = _draw_goal(items, rng, held_out)
    if drawn is None:
        return None
    goal, sentence = drawn
    item = next(item for item in items if item.name == goal.object)
    return Question("first", f"Where is the first thing in: {sentence}?", location(item))


def _ask_second(items: _Items, rng: np.random.Generator, held_out: bool) -> Question | None:
    """Points at the place (or the lower object) of an instruction."""
    drawn = _draw_goal(items, rng, held_out)
    if drawn is None or drawn[0].target is None:
        return None
    goal, sentence = drawn
    item = next(item for item in items if item.name == goal.target)
    return Question("second", f"Where is the second thing in: {sentence}?", location(item))


def _draw_goal(items: _Items, rng: np.random.Generator, held_out: bool) -> tuple[Goal, str] | None:
    """A goal among the things of a picture, and a sentence for it."""
    names = [item.name for item in items]
    objects = [name for name in names if kind_of(name) in SHAPES]
    zones = [name for name in names if kind_of(name) == "zone"]
    containers = [name for name in names if kind_of(name) in ("plate", "bowl")]
    if not objects:
        return None
    name = _pick(rng, objects)
    goals = [Goal("reach", name), Goal("pick", name)]
    goals += [Goal("push", name, zone) for zone in zones]
    goals += [Goal("place", name, place) for place in containers]
    # As in scenes, balls are never stacked.
    flat = [thing for thing in objects if kind_of(thing) != "ball"]
    goals += [Goal("stack", name, other) for other in flat if other != name and name in flat]
    task = _pick(rng, [task for task in TEMPLATES if any(goal.task == task for goal in goals)])
    among = [goal for goal in goals if goal.task == task]
    goal = among[int(rng.integers(len(among)))]
    return goal, _pick(rng, paraphrases(goal, held_out=held_out))


KINDS: Final[dict[str, Kind]] = {
    "pointing": Kind(_ask_pointing, 0.20),
    "first": Kind(_ask_first, 0.18, lengthy=True),
    "second": Kind(_ask_second, 0.12, lengthy=True),
    "naming": Kind(_ask_naming, 0.10),
    "colour": Kind(_ask_colour, 0.16),
    "shape": Kind(_ask_shape, 0.12),
    "count": Kind(_ask_count, 0.06),
    "existence": Kind(_ask_existence, 0.08),
    "relation": Kind(_ask_relation, 0.08),
    "caption": Kind(_ask_caption, 0.03, lengthy=True),
}
"""Kinds of question by name."""
