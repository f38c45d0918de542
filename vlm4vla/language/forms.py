"""The table of phrase forms: how things are referred to and tasks are asked for.

Sentences are written from this table and read with it; nothing else knows English. The known
sentences are among the forms: their templates are put into the notation by `_from_template`.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from vlm4vla.language.known import TEMPLATES
from vlm4vla.language.meanings import TARGET_KINDS, TASKS, Relation, Task
from vlm4vla.language.patterns import Literal, Pattern, Slot, everything

_LOOKS: Final = (
    ("coloured", "[?coloured | ?colored]"),
    ("being", "(?that is | ?which is | ?that's)"),
)
NOUNS: Final = {
    "named": Pattern("({colour} {coloured} {kind} | {kind} {being} {colour})", _LOOKS),
    "colour": Pattern("{colour} {coloured} {generic}", _LOOKS),
    "kind": Pattern("{kind}"),
    "object": Pattern("{generic}"),
}
"""Looks: colour and kind, colour alone, kind alone, neither."""

_PLACED: Final = (("which", "[that is | which is | ?that's | ~lying | ~standing | ~sitting]"),)


def _placed(*texts: str) -> tuple[Pattern, ...]:
    return tuple(Pattern(text, _PLACED) for text in texts)


REFERENCES: Final[dict[Relation | None, tuple[Pattern, ...]]] = {
    None: _placed("{the} {noun}"),
    "leftmost": _placed(
        "{the} (leftmost | left most) {noun}",
        "{the} {noun} {which} (~farthest | ~furthest) to the left",
        "{the} {noun} {which} on the far left",
    ),
    "rightmost": _placed(
        "{the} (rightmost | right most) {noun}",
        "{the} {noun} {which} (~farthest | ~furthest) to the right",
        "{the} {noun} {which} on the far right",
    ),
    "on the left": _placed(
        "{the} (left | ~left hand) {noun}",
        "{the} {noun} {which} on the left [side | ~hand side]",
    ),
    "on the right": _placed(
        "{the} (right | ~right hand) {noun}",
        "{the} {noun} {which} on the right [side | ~hand side]",
    ),
    "nearest to": _placed(
        "{the} {noun} {which} (nearest | closest) [to] {anchor}",
        "{the} (nearest | closest) {noun} to {anchor}",
    ),
    "farthest from": _placed(
        "{the} {noun} {which} (farthest | furthest) [away] from {anchor}",
        "{the} (farthest | furthest) {noun} from {anchor}",
    ),
    "between": _placed("{the} {noun} {which} [~in] between {anchor} and {anchor}"),
    "behind": _placed("{the} {noun} {which} (behind | ~at the back of) {anchor}"),
    "in front of": _placed("{the} {noun} {which} in front of {anchor}"),
    "left of": _placed(
        "{the} {noun} {which} ((on | to) the left [~side] of | left of) {anchor}",
    ),
    "right of": _placed(
        "{the} {noun} {which} ((on | to) the right [~side] of | right of) {anchor}",
    ),
    "other than": _placed(
        "{the} {noun} (that | which) (is not | isn't) {quality}",
        "{the} {noun} other than {quality one}",
    ),
}
"""Ways to refer to a thing, by where it stands; `{quality}` is "red" or "a cube"."""

ELSEWHERE: Final[tuple[Relation, ...]] = (
    "between",
    "behind",
    "in front of",
    "left of",
    "right of",
)
"""After "take" or "get" these can say where to bring the thing: `{compact}` is a reference without
them, so that "take the cube to the left of the bowl" is not read as lifting it."""

QUALITIES: Final = {
    "quality": {"colour": Pattern("{colour}"), "kind": Pattern("(a | ?an) {kind}")},
    "quality one": {"colour": Pattern("the {colour} {generic}"), "kind": Pattern("the {kind}")},
}
"""What an excluded thing is, as an adjective and as a thing."""

_INTO: Final[dict[Task, str]] = {
    "push": "(in | into | to | ~inside | ?on | ?onto) {target:zone}",
    "place": "((in | into | ~inside) {target:bowl} | (on | onto | on top of | ?in | ?into)"
    " {target:plate})",
    "stack": "(on | onto | on top of | ~atop) {target:cube,cylinder,ball}",
}
_TOWARDS: Final[dict[Task, str]] = {
    "push": "[over] to {target:zone}",
    "place": "[over] to {target:plate,bowl}",
    "stack": "on top of {target:cube,cylinder,ball}",
}
_AND: Final = "(and | and then | ~then | ?.)"


@dataclass(frozen=True)
class Form:
    """A way to ask for a task.

    Attributes:
        task: which.
        pattern: its words and slots.
        known: "training" or "held out" for a template of the known sentences, else "".
    """

    task: Task
    pattern: Pattern
    known: str = ""

    @property
    def leaves(self) -> tuple[Literal | Slot, ...]:
        """Its words and slots, those that are only read among them."""
        return tuple(self.pattern.leaves(everything))

    @cached_property
    def compact(self) -> bool:
        """Whether its object may not be told by a relation of `ELSEWHERE`."""
        return Slot("compact") in self.leaves


_HAND: Final = "(the | ?your) (hand | gripper | ~arm)"
_LIFT: Final = "(lift | raise | ~hoist)"
_GRASP: Final = "(grasp | grab | pick up | take | get | ~seize)"
_LAY: Final = "(put | place | set | lay | drop | ~deposit)"
_MOVE: Final = "(move | bring | carry | transfer | ~shift | ?get)"
_SLIDE: Final = "(push | slide | shove | nudge | ~scoot | ~sweep | ?drag | ?pull)"

_FORMS: Final[dict[Task, tuple[str, ...]]] = {
    "reach": (
        "(touch | reach | tap | ~contact) {object} [with {hand}]",
        "(reach | reach out) (for | to) {object}",
        "(go | move | ~head) [over] to {object}",
        "(go and | go over and | reach out and | ?go to and) (touch | tap) {object}",
        "(move | bring | ~guide) {hand} [over] (to | ?onto | ?on) {object}",
        "(put | place | lay | ~rest) {hand} on {object}",
        "make contact with {object}",
        "(make | let) {hand} touch {object}",
        "give {object} a (touch | tap)",
    ),
    "pick": (
        "pick up {object} [{off}]",
        "pick {object} up [{off}]",
        "pick {object} {off}",
        "?pick {object}",
        "{lift} {object} [up] [{off}]",
        "(lift | ~scoop) up {object} [{off}]",
        "(grab | grasp | ~seize) {object} [{off}]",
        "(take | get) {compact} [{off}]",
        "(get | take | ~catch) hold of {object} [and {lift} it [up] [{off}]]",
        "(get | take) {compact} {here} and ({lift} | pick) it up [{off}]",
        "(grab | grasp | ~seize) {object} {here} {and} ({lift} | pick) it up [{off}]",
        "(grab | grasp | get | take | ~seize) {object} {here} {and} {lift} it [{off}]",
        "reach for {object} {and} (lift it [up] | pick it up) [{off}]",
        "(go | move) to {object} {and} (lift it [up] | pick it up) [{off}]",
        "hold up {object}",
        "hold {object} up [in the air]",
        "(hold | lift | raise) {object} (in | into) the air",
        "{grasp} {object} {here} {and} hold it up",
        "close the gripper (on | around) {object} {and} {lift} it [up] [{off}]",
    ),
    "push": (
        "{slide} {object} [over | across the table] {there}",
        "{slide} {object} {until} (in | ~inside | ?on) {target:zone}",
        "{move} {object} {there}",
        "{move} {object} {towards}",
        "{lay} {object} [down] (in | into | ~inside | on) {target:zone}",
        "{grasp} {object} {here} {and} {lay} it [down] (in | ~inside | on) {target:zone}",
        "{grasp} {object} {here} {and} {move} it (into | to) {target:zone}",
        "(get | bring | move) {object} (into | to) {target:zone} by (pushing | sliding) it",
        "give {object} a push into {target:zone}",
        "use {hand} to {slide} {object} {there}",
    ),
    "place": (
        "{lay} {object} [down] {there}",
        "{move} {object} {there}",
        "{move} {object} {towards}",
        "take {object} to {target:plate,bowl}",
        "{grasp} {object} {here} {and} {lay} it [down] {there}",
        "pick {object} up {and} {lay} it [down] {there}",
        "{lift} {object} [up] {and} {lay} it [down] {there}",
        "{grasp} {object} {here} {and} {move} it (over to | to) {target:plate,bowl}",
        "{move} {object} {towards} {and} (let it go | let go of it | drop it | ~release it)",
        "{there} {lay} {object}",
        "use {hand} to (put | place | lay) {object} {there}",
    ),
    "stack": (
        "(stack | ~balance) {object} {there}",
        "{lay} {object} [down] {there}",
        "{move} {object} (onto | on top of | ?on) {target:cube,cylinder,ball}",
        "{grasp} {object} {here} {and} ({lay} it [down] | stack it | ~balance it) {there}",
        "pick {object} up {and} ({lay} it [down] | stack it) {there}",
        "{lift} {object} [up] {and} ({lay} it [down] | stack it | ~balance it) {there}",
        "(build | make) a (tower | stack) with {object} (on | on top of)"
        " {target:cube,cylinder,ball}",
        "{there} {lay} {object}",
        "use {hand} to (stack | put | place) {object} {there}",
    ),
}

START: Final = Pattern(
    "[please | kindly | (could | can | would | will) you [please | ~kindly]"
    " | i (want | need | would like) you to [please] | ~go ahead and"
    " | ?i'd like you to | ?please could you | ?robot [please] | ?hey robot | ?now | ?try to"
    " | ~the robot (should | must) | ?your task is to | ?you (should | must | need to | have to)]"
)
END: Final = Pattern(
    "[please | for me | for me please | ~thanks | ~thank you | ?for me thanks"
    " | ?for me thank you | ?please thanks | ?please thank you | ?now]"
)
"""Courtesy before and after what is asked for."""


def _macros(task: Task) -> tuple[tuple[str, str], ...]:
    return (
        ("hand", _HAND),
        ("lift", _LIFT),
        ("grasp", _GRASP),
        ("lay", _LAY),
        ("move", _MOVE),
        ("slide", _SLIDE),
        ("and", _AND),
        ("until", "(until | ?till) (it (is | lies | ~rests) | ?it's)"),
        ("off", "(off | from | ~off of | ?on) the table"),
        ("here", "[(?on | ?from | ?off) the table]"),
        ("there", _INTO.get(task, "")),
        ("towards", _TOWARDS.get(task, "")),
    )


def _from_template(task: Task, template: str) -> str:
    """A template of the known sentences in the notation; its articles belong to the references."""
    kinds = ",".join(TARGET_KINDS[task])
    bare = template.startswith("take the {object}") and "and" not in template
    text = template.replace("the {object}", "{compact}" if bare else "{object}")
    if "{on} the {target}" in text:
        text = text.replace("{on} the {target}", "(in {target:bowl} | on {target:plate})")
    return re.sub(r"the \{target\}", f"{{target:{kinds}}}", text)


def _all() -> tuple[Form, ...]:
    found = []
    for task in TASKS:
        for template in TEMPLATES[task].train:
            found.append(Form(task, Pattern(_from_template(task, template)), "training"))
        for template in TEMPLATES[task].held_out:
            found.append(Form(task, Pattern(_from_template(task, template)), "held out"))
        found += [Form(task, Pattern(text, _macros(task))) for text in _FORMS[task]]
    return tuple(found)


FORMS: Final = _all()
"""Every form, the known ones of a task first."""
