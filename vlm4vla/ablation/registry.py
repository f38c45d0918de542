"""Perturbations by name: what each changes, and its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vlm4vla.core.condition import OTHER_OBJECT, Perturbation, Value
from vlm4vla.errors import UserError
from vlm4vla.registry import Registry

Place = Literal["picture", "sentence", "inside", "simulator"]
"""Where a perturbation acts: on what a policy sees, on what it is told, on its layers, or on the
world."""


@dataclass(frozen=True)
class Number:
    """A number of a perturbation.

    Attributes:
        usual: its value where none is given.
        least: the smallest that makes sense.
        most: the largest.
        unit: of it, for people.
    """

    usual: int | float
    least: int | float
    most: int | float
    unit: str = ""


@dataclass(frozen=True)
class Choice:
    """A word of a perturbation: one of several; the first where none is given."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """A perturbation that can be asked for.

    Attributes:
        name: what it is asked for by.
        place: where it acts.
        meaning: what it does, for people.
        short: its name in a table.
        values: its numbers and words by name.
    """

    name: str
    place: Place
    meaning: str
    short: str
    values: Mapping[str, Number | Choice]


PERTURBATIONS: Final[Registry[Known]] = Registry("perturbation")


def _add(place: Place, name: str, short: str, meaning: str, **values: Number | Choice) -> None:
    PERTURBATIONS.add(name, Known(name, place, meaning, short, values))


_add("picture", "picture-blank", "blank", "one grey everywhere", level=Number(128, 0, 255))
_add(
    "picture",
    "picture-noise",
    "noise",
    "Gaussian noise on every pixel, drawn anew at every inference",
    sigma=Number(32, 0, 255, "grey levels"),
)
_add(
    "picture",
    "picture-blur",
    "blurred",
    "a Gaussian blur",
    sigma=Number(2.0, 0.0, 64.0, "pixels"),
)
_add(
    "picture",
    "picture-patches",
    "shuffled patches",
    "square patches in another order, the same one in the whole episode",
    side=Number(16, 1, 64, "pixels"),
)
_add(
    "picture",
    "picture-other",
    "another scene's",
    "the first picture of another scene of the task, which never moves",
)
_add(
    "picture",
    "picture-without",
    "painted out",
    "something covered with the background's colour by true segmentation",
    what=Choice(("object", "target", "gripper", "robot")),
)
_add("sentence", "sentence-empty", "empty", "no sentence")
_add("sentence", "sentence-paraphrase", "paraphrase", "another sentence that means the same")
_add(
    "sentence",
    OTHER_OBJECT,
    "another object's",
    "a valid sentence about another object of the scene, whose goal is watched",
)
_add("sentence", "sentence-order", "word salad", "its own words in another order")
_add("sentence", "sentence-nonsense", "nonsense", "random words of as many letters")
_add("inside", "skip-image-tokens", "image tokens zero", "every image token is the zero vector")
_add(
    "inside",
    "skip-vision-layer",
    "vision layer skipped",
    "a layer of the vision tower hands on what it was given",
    layer=Number(0, 0, 999),
)
_add(
    "inside",
    "skip-language-layer",
    "language layer skipped",
    "a layer of the language model hands on what it was given",
    layer=Number(0, 0, 999),
)
_add(
    "inside",
    "skip-head",
    "attention head skipped",
    "an attention head adds nothing",
    part=Choice(("language", "vision")),
    layer=Number(0, 0, 999),
    head=Number(0, 0, 999),
)
_add("simulator", "light", "light", "every lamp times a factor", factor=Number(0.5, 0.0, 4.0))
_add(
    "simulator",
    "camera",
    "camera moved",
    "the policy's camera turned about the middle of the table",
    degrees=Number(5.0, -45.0, 45.0, "degrees"),
)
_add(
    "simulator",
    "table-colour",
    "table colour",
    "another colour of the table",
    red=Number(0.2, 0.0, 1.0),
    green=Number(0.3, 0.0, 1.0),
    blue=Number(0.5, 0.0, 1.0),
)
_add(
    "simulator",
    "distractors",
    "more distractors",
    "further objects on the table",
    count=Number(1, 0, 2),
)
_add(
    "simulator",
    "shade",
    "unseen shades",
    "every object's colour darker or lighter by a factor, which keeps its name",
    factor=Number(0.6, 0.2, 1.5),
)

_add(
    "simulator",
    "pale",
    "unseen colours",
    "every object's colour mixed with white by a share, which keeps its name",
    share=Number(0.4, 0.0, 0.8),
)
_add(
    "simulator",
    "size",
    "unseen sizes",
    "every movable object larger or smaller by a factor",
    factor=Number(1.2, 0.7, 1.4),
)

_WHOLE_EPISODE: Final = "simulator"


def perturbation(
    name: str,
    values: Mapping[str, Value] | None = None,
    first_step: int = 0,
    last_step: int | None = None,
) -> Perturbation:
    """A perturbation with all of its numbers, so that the same one always has the same hash.

    Args:
        name: one of `PERTURBATIONS`.
        values: its numbers; those left out are as usual.
        first_step: the control step from which on it holds.
        last_step: the last one at which it holds; None for until the end.

    Raises:
        UserError: there is no such perturbation or number, one is out of range, or it cannot begin
            or end in the middle of an episode.
    """
    known = PERTURBATIONS.get(name)
    given = dict(values or {})
    if unknown := sorted(set(given) - set(known.values)):
        raise UserError(
            f"{name} has no {unknown[0]}.",
            f"It has {', '.join(known.values) or 'no numbers'}.",
        )
    if first_step < 0 or (last_step is not None and last_step < first_step):
        raise UserError(f"{name} cannot hold from step {first_step} to step {last_step}.")
    if known.place == _WHOLE_EPISODE and (first_step or last_step is not None):
        raise UserError(
            f"{name} changes the simulator and holds for a whole episode.",
            "Leave its first and last step out.",
        )
    checked = {key: _checked(name, key, one, given) for key, one in known.values.items()}
    return Perturbation(name, checked, first_step, last_step)


def ordered(changes: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """Perturbations in the registry's order, so that a set of them has one hash.

    Raises:
        UserError: one is there twice.
    """
    order = list(PERTURBATIONS)
    names = [one.name for one in changes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is asked for twice in one condition.")
    return tuple(sorted(changes, key=lambda one: order.index(one.name)))


def place_of(change: Perturbation) -> Place | None:
    """Where a perturbation acts; None for one that is none of `PERTURBATIONS`."""
    return PERTURBATIONS.get(change.name).place if change.name in PERTURBATIONS else None


def parse(words: Sequence[str]) -> dict[str, Value]:
    """The numbers in words such as "sigma=2".

    Raises:
        UserError: it is not written like that.
    """
    found: dict[str, Value] = {}
    for part in words:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise UserError(f"{part!r} is no number of a perturbation.", "Write NAME=VALUE.")
        found[name] = _plain(value)
    return found


def _plain(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _checked(name: str, key: str, known: Number | Choice, given: Mapping[str, Value]) -> Value:
    if isinstance(known, Choice):
        word = given.get(key, known.words[0])
        if word not in known.words:
            raise UserError(
                f"{name} cannot have {key}={word}.", f"Choose {', '.join(known.words)}."
            )
        return word
    value = given.get(key, known.usual)
    # The same number must not have two hashes: 2 and 2.0 are told apart in JSON.
    kind = type(known.usual)
    if (
        isinstance(value, (str, bool))
        # First, since what is not finite is no whole number either, and says so with a traceback.
        or not known.least <= value <= known.most
        or kind(value) != value
    ):
        whole = "a whole number" if kind is int else "a number"
        raise UserError(
            f"{name} cannot have {key}={value}.",
            f"Give {whole} from {known.least} to {known.most}.",
        )
    return kind(value)
