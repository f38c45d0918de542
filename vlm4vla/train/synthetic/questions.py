"""Questions and answers about pictures, in words that the instructions use too.

Answers begin with a space, so that a colour or a kind is the same token in an answer as in a
sentence; two location tokens, one across and one down, name a point.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from vlm4vla.language import corpus as language
from vlm4vla.language.draw import references, sentences, taught
from vlm4vla.language.kinds import held_out_pair
from vlm4vla.language.known import TEMPLATES
from vlm4vla.language.things import Thing
from vlm4vla.language.vocabulary import words_for
from vlm4vla.suites.tabletop.instructions import Goal, paraphrases
from vlm4vla.suites.tabletop.scene import goals_among
from vlm4vla.suites.tabletop.vocabulary import COLOURS, FIXTURES, SHAPES, colour_of, kind_of
from vlm4vla.train.synthetic.drawings import PIXELS, Item, Picture

CELLS: Final = 32
"""Location tokens along an axis."""

ACROSS: Final = tuple(f"<across_{cell:02d}>" for cell in range(CELLS))
DOWN: Final = tuple(f"<down_{cell:02d}>" for cell in range(CELLS))
LOCATIONS: Final = ACROSS + DOWN
"""Each axis has tokens of its own, so that a patch can be told both places of a thing at once."""

NOTHING: Final = "nothing"
"""The word for a patch that shows no named thing."""

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_PIXELS_ACROSS: Final = 319.0
_PIXELS_DOWN: Final = 244.0
"""A metre of the table in the middle of the policy camera's picture."""

_APART: Final = 6.0
"""Two centres must differ by this many pixels before one is said to be left of the other."""


Words = Literal["training", "paraphrases", "broad", "held-out"]
"""Where words are drawn from: everything that training may hold, half of it broad; held-out
paraphrases of the known sentences; broad sentences alone; sentences with words or combinations of
words that training never holds."""

_SYNONYMS: Final = 0.3
"""How often a brief question of training calls a thing by another of its words."""


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
    across, down = (int(place * CELLS / PIXELS) for place in (item.x, item.y))
    return min(max(across, 0), CELLS - 1), min(max(down, 0), CELLS - 1)


def ask(
    picture: Picture, kind: str, rng: np.random.Generator, words: Words = "training"
) -> Question | None:
    """Draws a question of one kind, or None where the picture does not allow it.

    Args:
        picture: what it is about.
        kind: a key of `KINDS`.
        rng: what is drawn from.
        words: where its words are drawn from.
    """
    return KINDS[kind].ask(picture.items, rng, words)


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
        chosen = [picture.items[int(i)] for i in rng.permutation(len(picture.items))[:count]]
        return [_pointing(item, called(item.name, rng)) for item in chosen]
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
    return [_pointing(item, item.name) for item in picture.items]


def called(name: str, rng: np.random.Generator) -> str:
    """A thing's name, sometimes in other words, all of them such that training may hold them."""
    if rng.random() >= _SYNONYMS:
        return name
    colour, kind = (
        _pick(rng, [word.text for word in words_for(said) if not word.held_out])
        for said in (colour_of(name), kind_of(name))
    )
    return name if held_out_pair(colour, kind) else f"{colour} {kind}"


def corpus() -> Iterator[str]:
    """Every kind of sentence at least once, with every name: what a tokenizer learns from.

    It holds every word of the language, held-out ones too: a tokenizer learns how a word is
    spelled, not what it means.
    """
    rng = np.random.default_rng(0)
    yield from language.corpus()
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
                question = KINDS[kind].ask(items, rng, "paraphrases")
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
_Ask = Callable[[_Items, np.random.Generator, Words], Question | None]


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


def _pointing(item: Item, said: str) -> Question:
    return Question("pointing", f"Point at the {said}.", location(item))


def _said(item: Item, rng: np.random.Generator, words: Words) -> str:
    """A thing's name; in training sometimes in other words."""
    return called(item.name, rng) if words == "training" else item.name


def _ask_pointing(items: _Items, rng: np.random.Generator, words: Words) -> Question:
    item = _any(rng, items)
    return _pointing(item, _said(item, rng, words))


def _ask_referred(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
    """Points at a thing by a part of its name, by where it is, or by what it is not."""
    things = on_table(items)
    place = int(rng.integers(len(items)))
    found = references(things[place], things)
    if not found:
        return None
    among = found[_pick(rng, found)]
    reference = among[int(rng.integers(len(among)))]
    return Question("referred", f"Point at {reference}.", location(items[place]))


def _ask_naming(items: _Items, rng: np.random.Generator, words: Words) -> Question:
    item = _any(rng, items)
    return Question("naming", f"What is at {location(item)}?", f" {item.name}")


def _ask_colour(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
    clear = _only(items, kind_of)
    if not clear:
        return None
    item = _any(rng, clear)
    text = f"What colour is the {kind_of(_said(item, rng, words))}?"
    return Question("colour", text, f" {colour_of(item.name)}")


def _ask_shape(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
    clear = _only(items, colour_of)
    if not clear:
        return None
    item = _any(rng, clear)
    text = f"What is the {colour_of(_said(item, rng, words))} thing?"
    return Question("shape", text, f" {kind_of(item.name)}")


def _ask_count(items: _Items, rng: np.random.Generator, words: Words) -> Question:
    if rng.random() < 0.5:
        kind = _pick(rng, (*SHAPES, *FIXTURES))
        number = sum(kind_of(item.name) == kind for item in items)
        return Question("count", f"How many {kind}s are there?", f" {_NUMBERS[number]}")
    colour = _pick(rng, COLOURS)
    number = sum(colour_of(item.name) == colour for item in items)
    return Question("count", f"How many {colour} things are there?", f" {_NUMBERS[number]}")


def _ask_existence(items: _Items, rng: np.random.Generator, words: Words) -> Question:
    """Half are there; most of the others share a colour or a kind with something that is."""
    names = {item.name for item in items}
    item = _any(rng, items)
    if rng.random() < 0.5:
        return Question("existence", f"Is there {_a(_said(item, rng, words))}?", " yes")
    while True:
        name = f"{_pick(rng, COLOURS)} {kind_of(item.name)}"
        if rng.random() < 0.5:
            name = f"{colour_of(item.name)} {_pick(rng, (*SHAPES, *FIXTURES))}"
        if name not in names:
            said = called(name, rng) if words == "training" else name
            return Question("existence", f"Is there {_a(said)}?", " no")


def _ask_relation(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
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


def _ask_caption(items: _Items, rng: np.random.Generator, words: Words) -> Question:
    ordered = sorted(items, key=lambda item: item.x)
    listed = ", ".join(_a(item.name) for item in ordered)
    return Question("caption", "What is there, from left to right?", f" {listed}")


def on_table(items: _Items) -> list[Thing]:
    """The things of a picture where they would stand if the policy's camera had taken it.

    Where they are in the picture is what sentences about left, right, near and far go by.
    """
    return [
        Thing(
            item.name,
            colour_of(item.name),
            kind_of(item.name),
            (item.y - PIXELS / 2) / _PIXELS_DOWN,
            (item.x - PIXELS / 2) / _PIXELS_ACROSS,
            kind_of(item.name) in SHAPES,
        )
        for item in items
    ]


def _ask_first(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
    """Points at the object of an instruction."""
    drawn = _draw_goal(items, rng, words)
    if drawn is None:
        return None
    goal, sentence = drawn
    item = next(item for item in items if item.name == goal.object)
    return Question("first", f"Where is the first thing in: {sentence}?", location(item))


def _ask_second(items: _Items, rng: np.random.Generator, words: Words) -> Question | None:
    """Points at the place (or the lower object) of an instruction."""
    drawn = _draw_goal(items, rng, words, two=True)
    if drawn is None:
        return None
    goal, sentence = drawn
    item = next(item for item in items if item.name == goal.target)
    return Question("second", f"Where is the second thing in: {sentence}?", location(item))


def _draw_goal(
    items: _Items, rng: np.random.Generator, words: Words, *, two: bool = False
) -> tuple[Goal, str] | None:
    """A goal among the things of a picture, and a sentence for it; tasks are equally likely."""
    names = [item.name for item in items]
    objects = [name for name in names if kind_of(name) in SHAPES]
    goals = goals_among(objects, [name for name in names if name not in objects])
    goals = tuple(goal for goal in goals if goal.target or not two)
    if not goals:
        return None
    task = _pick(rng, [task for task in TEMPLATES if any(goal.task == task for goal in goals)])
    among = [goal for goal in goals if goal.task == task]
    goal = among[int(rng.integers(len(among)))]
    if words == "paraphrases" or (words == "training" and rng.random() < 0.5):
        return goal, _pick(rng, paraphrases(goal, held_out=words == "paraphrases"))
    key, things = (goal.task, goal.object, goal.target), on_table(items)
    if words == "training":
        return goal, next(taught(key, things, rng)).text
    split: Literal["broad", "held-out"] = "held-out" if words == "held-out" else "broad"
    return goal, next(sentences(key, things, split, rng)).text


KINDS: Final[dict[str, Kind]] = {
    "pointing": Kind(_ask_pointing, 0.20),
    "first": Kind(_ask_first, 0.18, lengthy=True),
    "second": Kind(_ask_second, 0.12, lengthy=True),
    "referred": Kind(_ask_referred, 0.10, lengthy=True),
    "naming": Kind(_ask_naming, 0.10),
    "colour": Kind(_ask_colour, 0.16),
    "shape": Kind(_ask_shape, 0.12),
    "count": Kind(_ask_count, 0.06),
    "existence": Kind(_ask_existence, 0.08),
    "relation": Kind(_ask_relation, 0.08),
    "caption": Kind(_ask_caption, 0.03, lengthy=True),
}
"""Kinds of question by name."""
