"""Readings: what a sentence asks for in a scene, with certainty, or why that cannot be said.

A sentence is *known* if the policy was taught it word for word; *understood* if every word of it
is accounted for, every reference means one thing on the table, and all of its meanings are the
same goal; anything else is *not judged*, whatever happens in the episode.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from rapidfuzz import fuzz

from vlm4vla.language.draw import GoalKey, goal_key
from vlm4vla.language.kinds import read_words
from vlm4vla.language.known import TEMPLATES, fill
from vlm4vla.language.meanings import Reference
from vlm4vla.language.normal import normalise, split_words
from vlm4vla.language.parse import Parsed, parses
from vlm4vla.language.spelling import Mended, mend
from vlm4vla.language.things import Absent, Ambiguous, Resolved, Thing, resolve, resolve_target
from vlm4vla.language.vocabulary import GENERIC_WORDS, KIND_WORDS

Kind = Literal["known", "understood", "not judged"]
Reason = Literal["", "ambiguous", "absent", "several tasks", "no task"]

_MOST_SUGGESTIONS: Final = 3

_REFUSED: Final[tuple[tuple[str, Reason, str], ...]] = (
    (
        "not don't dont doesn't never no nothing none without avoid stop except instead rather"
        " cannot can't won't wouldn't shouldn't nobody neither nor anything",
        "no task",
        "It says what not to do; only what to do is judged.",
    ),
    (
        "if unless when whenever while until before after once because whether otherwise else"
        " as soon",
        "no task",
        "It depends on something else; that is not judged.",
    ),
    (
        "both every each everything everyone two three four five six several many few twice times",
        "several tasks",
        "It asks for more than one thing; one is judged.",
    ),
    (
        "any some either another this these those them other others same",
        "ambiguous",
        "It leaves open which one is meant.",
    ),
)
"""Words that, in a sentence that is not read, say why."""

_PLURALS: Final = frozenset(f"{word.text}s" for word in KIND_WORDS + GENERIC_WORDS)
_JOINTS: Final = frozenset({"and", "then", ".", ",", ";", "or", "before", "after"})


@dataclass(frozen=True)
class Reading:
    """What a sentence means in a scene.

    Attributes:
        text: the sentence, as it was typed.
        kind: whether it is known, understood, or not judged.
        reason: why it is not judged; "" if it is.
        sentence: the reading in words for people.
        judged_as: the known sentence that its success is judged by; "" if it is not judged.
        goal: what success is judged by, or None.
        things: names of what to outline: the object and the target, or what it could mean.
        mended: slips that were put right, in their order.
        unknown: words that language does not know, once each, in their order.
        suggestions: known sentences that may be meant instead; none if it is judged.
    """

    text: str
    kind: Kind
    reason: Reason
    sentence: str
    judged_as: str = ""
    goal: GoalKey | None = None
    things: tuple[str, ...] = ()
    mended: tuple[Mended, ...] = ()
    unknown: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether success can be told."""
        return self.goal is not None

    def as_json(self) -> dict[str, Any]:
        """The reading as plain lists and dictionaries."""
        found = asdict(self)
        found["goal"] = None if self.goal is None else self.goal._asdict()
        found["mended"] = [list(pair) for pair in self.mended]
        for name in ("things", "unknown", "suggestions"):
            found[name] = list(found[name])
        return found


def read_in_scene(
    text: str, things: Sequence[Thing], goals: Iterable[tuple[str, str, str | None]]
) -> Reading:
    """Reads a sentence in a scene.

    Args:
        text: what was typed.
        things: everything on the table, where it stands when the episode begins.
        goals: (task, object, target) of everything that can be judged here.
    """
    keys = [goal_key(*goal) for goal in goals]
    wanted = normalise(text)
    for key in keys:
        if wanted in known_sentences(key) or (
            wanted.replace(" into the ", " in the ") in known_sentences(key)
        ):
            return _judged(text, "known", key, ())
    words = split_words(text)
    mended: tuple[Mended, ...] = ()
    found = parses(words)
    if not found and (fixed := mend(words)):
        words, mended = fixed
        found = parses(words)
    if not found:
        mended = ()
    return _Judge(text, tuple(words), mended, things, keys).read(found)


def known_sentences(goal: GoalKey) -> tuple[str, ...]:
    """Every known sentence for a goal, those for training first."""
    train, held_out = TEMPLATES[goal.task]
    return tuple(fill(template, goal.object, goal.target) for template in (*train, *held_out))


def judged_as(goal: GoalKey) -> str:
    """The plainest known sentence for a goal."""
    return known_sentences(goal)[0]


def _judged(text: str, kind: Kind, goal: GoalKey, mended: tuple[Mended, ...]) -> Reading:
    names = (goal.object, *filter(None, [goal.target]))
    said = f'Judged as "{judged_as(goal)}".' if kind == "understood" else "A known sentence."
    return Reading(text, kind, "", said, judged_as(goal), goal, names, mended)


@dataclass(frozen=True)
class _Problem:
    """Why one way to read a sentence is no goal here; the lowest rank is told."""

    rank: int
    reason: Reason
    sentence: str
    things: tuple[str, ...] = ()
    task: str = ""


@dataclass(frozen=True)
class _Judge:
    """A sentence that is not known, and the scene that it is said in."""

    text: str
    words: tuple[str, ...]
    mended: tuple[Mended, ...]
    things: Sequence[Thing]
    goals: Sequence[GoalKey]

    def read(self, found: Sequence[Parsed]) -> Reading:
        """The reading, given every way to read the words."""
        outcomes = [self.outcome(parsed) for parsed in found]
        certain = list(dict.fromkeys(o for o in outcomes if isinstance(o, GoalKey)))
        problems = [o for o in outcomes if isinstance(o, _Problem)]
        unclear = [problem for problem in problems if problem.reason == "ambiguous"]
        if len(certain) > 1:
            either = '" or "'.join(judged_as(goal) for goal in certain)
            names = tuple(dict.fromkeys(n for g in certain for n in (g.object, g.target) if n))
            return self.refused(_Problem(0, "ambiguous", f'It can mean "{either}".', names))
        if certain and not unclear:
            return _judged(self.text, "understood", certain[0], self.mended)
        if problems:
            return self.refused(min(problems, key=lambda problem: problem.rank))
        return self.refused(self.no_meaning())

    def outcome(self, parsed: Parsed) -> "GoalKey | _Problem":
        """What one way to read the sentence is in the scene."""
        meaning = parsed.meaning
        thing = resolve(meaning.object, self.things)
        if not isinstance(thing, Resolved):
            return self.unresolved(meaning.object, thing, parsed)
        moved = thing.thing
        if not moved.movable:
            why = f"The {moved.name} stays where it is: it cannot be moved."
            if meaning.task == "reach":
                why = f"Only what can be moved is touched here, and the {moved.name} stays."
            return _Problem(3, "no task", why, (moved.name,))
        target = None
        if meaning.target:
            place = resolve_target(meaning.target, self.things, moved)
            if isinstance(place, Absent) and resolve(meaning.target, self.things) == thing:
                return self.no_goal(parsed, moved, moved)
            if not isinstance(place, Resolved):
                return self.unresolved(meaning.target, place, parsed)
            target = place.thing
            if not parsed.fits or target.kind not in parsed.target_kinds:
                return self.no_goal(parsed, moved, target)
        key = GoalKey(meaning.task, moved.name, target.name if target else None)
        return key if key in self.goals else self.no_goal(parsed, moved, target)

    def unresolved(
        self, reference: Reference, found: Ambiguous | Absent, parsed: Parsed
    ) -> _Problem:
        task = parsed.meaning.task
        late = 0 if parsed.fits else 10
        if isinstance(found, Absent):
            what = found.what.removeprefix("the ")
            return _Problem(2 + late, "absent", f"There is no {what} here.", (), task)
        names = tuple(thing.name for thing in found.candidates)
        noun = reference.noun.kind or "one"
        among = " or ".join(f"the {name}" for name in names)
        if len(names) == 1:
            sentence = f"It is not clear whether the {names[0]} is {found.what}."
        else:
            sentence = f"Which {noun}? It could be {among}."
        return _Problem(1 + late, "ambiguous", sentence, names, task)

    def no_goal(self, parsed: Parsed, moved: Thing, target: Thing | None) -> _Problem:
        task = parsed.meaning.task
        names = (moved.name, *([target.name] if target else []))
        if target == moved:
            sentence = f"The {moved.name} cannot go onto itself."
        elif task == "stack" and target and "ball" in (moved.kind, target.kind):
            sentence = "Balls roll off: stacking with one is not a task here."
        elif target:
            sentence = (
                f"How the {moved.name} goes to the {target.name} like that is not judged here."
            )
        else:
            sentence = f"That is not a task for the {moved.name} here."
        return _Problem(4 if parsed.fits else 14, "no task", sentence, names, task)

    def no_meaning(self) -> _Problem:
        """Why a sentence is not read at all."""
        words = set(self.words)
        if not words:
            return _Problem(9, "no task", "There is no word in it.")
        for refused, reason, sentence in _REFUSED:
            if words & set(refused.split()):
                return _Problem(9, reason, sentence)
        several = _Problem(9, "several tasks", "It asks for more than one thing; one is judged.")
        asked, named = self.parts()
        if _PLURALS & words or asked > 1 or (asked and named):
            return several
        unknown = self.unknown()
        if unknown:
            said = ", ".join(f'"{word}"' for word in unknown[:3])
            return _Problem(9, "no task", f"Not understood: {said}.")
        if asked and "it" not in words:
            return several
        return _Problem(9, "no task", "No task is understood in it.")

    def parts(self) -> tuple[int, int]:
        """How many parts of the sentence ask for something, and how many only name a thing.

        Parts stand between "and", "then" and punctuation.
        """
        parts: list[list[str]] = [[]]
        for word in self.words:
            if word in _JOINTS:
                parts.append([])
            else:
                parts[-1].append(word)
        if len(parts) == 1:
            return 0, 0
        asked = sum(bool(parses(part) or parses(_without_it(part))) for part in parts if part)
        named = sum(bool(parses(["touch", *part])) for part in parts if part)
        return asked, named

    def unknown(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word for word in self.words if word not in read_words()))

    def refused(self, problem: _Problem) -> Reading:
        return Reading(
            self.text,
            "not judged",
            problem.reason,
            problem.sentence,
            things=problem.things,
            mended=self.mended,
            unknown=self.unknown(),
            suggestions=self.suggestions(problem),
        )

    def suggestions(self, problem: _Problem) -> tuple[str, ...]:
        """The known sentences most like it, of what it could mean if that is known."""
        said = " ".join(self.words)
        among = [goal for goal in self.goals if not problem.task or goal.task == problem.task]
        if problem.reason == "ambiguous":
            meant = [g for g in among if g.object in problem.things or g.target in problem.things]
            among = meant or among
        scored = sorted(
            (judged_as(goal) for goal in among or self.goals),
            key=lambda sentence: -fuzz.token_set_ratio(said, sentence),
        )
        return tuple(scored[:_MOST_SUGGESTIONS])


def _without_it(words: list[str]) -> list[str]:
    """The words with a thing in the place of "it"."""
    return [part for word in words for part in (["the", "cube"] if word == "it" else [word])]
