"""Sentences for training and measuring: broad language that means exactly one goal in a scene."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, NamedTuple

import numpy as np

from vlm4vla.errors import UserError
from vlm4vla.language.kinds import (
    COMPARISONS,
    KIND_OF_RELATION,
    SHARES,
    held_out,
    held_out_kind,
    kind_of,
)
from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.meanings import ANCHORS, TASKS, Meaning, Noun, Reference, Task
from vlm4vla.language.things import Resolved, Thing, resolve, resolve_target
from vlm4vla.language.write import Style, Written, write

Split = Literal["known", "broad", "held-out"]
SPLITS: Final[tuple[Split, ...]] = ("known", "broad", "held-out")

_TRIES: Final = 60


class GoalKey(NamedTuple):
    """A goal as plain words: task, name of the object, name of the target or None."""

    task: Task
    object: str
    target: str | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence for a goal.

    Attributes:
        text: the sentence.
        goal: the only goal that it means in its scene.
        kind: how it refers to things: a key of `SHARES`, or "known".
        held_out: "word" or "combination" if training never holds one of it, else "".
    """

    text: str
    goal: GoalKey
    kind: str
    held_out: str = ""


def sentences(
    goal: tuple[str, str, str | None],
    things: Sequence[Thing],
    split: Split,
    rng: np.random.Generator,
    kinds: Mapping[str, float] | None = None,
) -> Iterator[Sentence]:
    """Draws sentences for a goal without end; each means this goal and no other in the scene.

    Args:
        goal: (task, object, target).
        things: everything on the table, where it stands when the sentence is said.
        split: "known" draws from the training templates, "broad" from everything that training
            may hold, "held-out" sentences with a word or a combination that it never holds.
        rng: what is drawn from.
        kinds: shares of the kinds of reference, of which those that the scene allows are drawn;
            `SHARES` if None.

    Raises:
        UserError: the task, the split or a kind is unknown, or the scene allows none of the kinds.
    """
    key = goal_key(*goal)
    if split not in SPLITS:
        raise UserError(f"Unknown words {split!r}; known: {', '.join(SPLITS)}.")
    if split == "known":
        return _known(key, rng)
    shares = SHARES if kinds is None else kinds
    unknown = [kind for kind in shares if kind not in SHARES]
    if unknown:
        raise UserError(f"Unknown kind of reference {unknown[0]!r}; known: {'; '.join(SHARES)}.")
    drawer = _Drawer(key, things, split, rng, shares)
    if not drawer.kinds:
        raise UserError(f"No {split} sentence for {key} is of the kinds {'; '.join(shares)}.")
    return drawer.every()


def taught(
    goal: tuple[str, str, str | None],
    things: Sequence[Thing],
    rng: np.random.Generator,
    comparisons: float = 1.0,
) -> Iterator[Sentence]:
    """Draws broad sentences for training: none of the known sentences' held-out paraphrases.

    One broad sentence in some hundreds is one of them by chance.

    Args:
        goal: (task, object, target).
        things: everything on the table, where it stands when the sentence is said.
        rng: what is drawn from.
        comparisons: how many times as often as `SHARES` says a kind of `COMPARISONS` is drawn.

    Raises:
        UserError: see `sentences`.
    """
    key = goal_key(*goal)
    kept = {fill(template, key.object, key.target) for template in TEMPLATES[key.task].held_out}
    shares = {
        kind: share * (comparisons if kind in COMPARISONS else 1) for kind, share in SHARES.items()
    }
    return (one for one in sentences(goal, things, "broad", rng, shares) if one.text not in kept)


def comparing(
    goal: tuple[str, str, str | None], things: Sequence[Thing], rng: np.random.Generator
) -> Sentence | None:
    """Draws a broad sentence that compares a thing with others; None if the scene allows none.

    Args:
        goal: (task, object, target).
        things: everything on the table, where it stands when the sentence is said.
        rng: what is drawn from.

    Raises:
        UserError: the task is unknown.
    """
    shares = {kind: SHARES[kind] for kind in COMPARISONS}
    drawer = _Drawer(goal_key(*goal), things, "broad", rng, shares)
    return drawer.draw() if drawer.kinds else None


def goal_key(task: str, thing: str, target: str | None) -> GoalKey:
    """A goal as a key.

    Raises:
        UserError: the task is none that language knows.
    """
    for known in TASKS:
        if known == task:
            return GoalKey(known, thing, target)
    raise UserError(f"There is no language for the task {task!r}; known: {', '.join(TASKS)}.")


def _known(goal: GoalKey, rng: np.random.Generator) -> Iterator[Sentence]:
    templates = TEMPLATES[goal.task].train
    while True:
        template = templates[int(rng.integers(len(templates)))]
        yield Sentence(fill(template, goal.object, goal.target), goal, "known")


class _Drawer:
    """Draws sentences of one goal; its references are found once."""

    def __init__(
        self,
        goal: GoalKey,
        things: Sequence[Thing],
        split: Split,
        rng: np.random.Generator,
        shares: Mapping[str, float],
    ) -> None:
        by_name = {thing.name: thing for thing in things}
        self.goal, self.split, self.rng, self.shares = goal, split, rng, shares
        self.object = by_name[goal.object]
        self.target = by_name[goal.target] if goal.target else None
        self.objects = references(self.object, things)
        self.targets = references(self.target, things, self.object) if self.target else {}
        self.kinds = [
            kind
            for kind in shares
            if shares[kind] > 0
            and (kind in ("named", "synonym") or kind in self.objects or kind in self.targets)
            and (split == "held-out" or not held_out_kind(goal.task, kind))
        ]

    def every(self) -> Iterator[Sentence]:
        while True:
            yield self.draw()

    def draw(self) -> Sentence:
        weights = np.array([self.shares[kind] for kind in self.kinds])
        while True:
            # Some kinds have no sentence of some splits: another is drawn.
            kind = self.kinds[int(self.rng.choice(len(self.kinds), p=weights / weights.sum()))]
            wanted = ""
            if self.split == "held-out":
                wanted = "combination" if held_out_kind(self.goal.task, kind) else "word"
                if wanted == "word" and kind == "synonym" and self.rng.random() < 0.5:
                    wanted = "combination"
            for _ in range(_TRIES):
                written = self.write(kind, held_out=wanted == "word")
                if kind_of(written) == kind and held_out(written) == wanted:
                    return Sentence(written.text, self.goal, kind, wanted)

    def write(self, kind: str, *, held_out: bool) -> Written:
        plain = Reference(Noun(self.object.colour, self.object.kind))
        thing, target = plain, None
        if self.target:
            target = Reference(Noun(self.target.colour, self.target.kind))
        options = [
            (slot, r) for slot in (0, 1) for r in (self.objects, self.targets)[slot].get(kind, ())
        ]
        if options:
            slots = sorted({slot for slot, _ in options})
            slot = slots[int(self.rng.integers(len(slots)))]
            among = [reference for place, reference in options if place == slot]
            chosen = among[int(self.rng.integers(len(among)))]
            thing, target = (chosen, target) if slot == 0 else (thing, chosen)
        style = Style(held_out, {"named": 0.0, "synonym": 0.8}.get(kind, 0.3))
        return write(
            Meaning(self.goal.task, thing, target),
            self.rng,
            style,
            self.target.kind if self.target else None,
        )


def references(
    thing: Thing, things: Sequence[Thing], moved: Thing | None = None
) -> dict[str, tuple[Reference, ...]]:
    """Every way to refer to one thing and no other besides its name, by kind.

    Relations are left out where looks would do without them.

    Args:
        thing: what is meant.
        things: everything on the table.
        moved: the object, if `thing` is where it goes.
    """

    def means(reference: Reference) -> bool:
        found = resolve_target(reference, things, moved) if moved else resolve(reference, things)
        return found == Resolved(thing)

    found: dict[str, list[Reference]] = {}
    alone = {"colour alone": Noun(thing.colour), "kind alone": Noun(None, thing.kind)}
    for kind, noun in alone.items():
        if means(Reference(noun)):
            found[kind] = [Reference(noun)]
    vague = [noun for kind, noun in alone.items() if kind not in found]
    others = [Noun(t.colour, t.kind) for t in things if t not in (thing, moved)]
    for noun in (Noun(), *vague):
        for reference in _related(noun, others):
            if means(reference):
                assert reference.relation is not None
                found.setdefault(KIND_OF_RELATION[reference.relation], []).append(reference)
    return {kind: tuple(among) for kind, among in found.items()}


def _related(noun: Noun, others: Sequence[Noun]) -> Iterator[Reference]:
    """References by relation, and by exclusion, with a thing of these looks."""
    for relation, count in ANCHORS.items():
        if relation != "other than":
            for anchors in combinations(others, count):
                yield Reference(noun, relation, anchors)
    if not noun.colour:
        for colour in dict.fromkeys(other.colour for other in others):
            yield Reference(noun, "other than", (Noun(colour),))
    if not noun.kind:
        for kind in dict.fromkeys(other.kind for other in others):
            yield Reference(noun, "other than", (Noun(None, kind),))
