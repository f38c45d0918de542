"""Why an episode failed: automatic labels by rules that read its stored row alone.

Every rule looks for one thing that can go wrong and tells the control step at which it had gone
wrong. The label of a failed episode is the rule whose step comes first, in a tie the one that is
registered first: what went wrong first, and not the worst that came of it. Rules need no
simulator; docs/failures.md holds them in words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from vlm4vla.core.episode import Episode
from vlm4vla.core.motion import Flags, Motion
from vlm4vla.core.observation import Array
from vlm4vla.registry import Registry
from vlm4vla.suites.registry import SUITES

RULES_VERSION: Final = 2
"""Raised when a rule, or what a suite tells of a motion, changes: stored labels are then made
again. A test holds the labels of the shipped episodes."""

UNEXPLAINED: Final = "timed out"
"""The label of what no rule explains."""

MOVED: Final = 0.02
"""An object that far from where it began was moved (metres)."""

RAISED: Final = 0.03
"""An object that was held that far above where it began was carried (metres)."""

BESIDE: Final = 0.05
"""An object that is let go no further outside of its target was meant for it (metres)."""

TOPPLED: Final = 30.0
"""An object that leans further has been knocked over (degrees)."""

NEAR: Final = 0.04
DWELL: Final = 10
"""A hand that stays within `NEAR` metres of an object's centre for `DWELL` steps went for it."""

TURN: Final = 0.02
TURNS: Final = 6
"""Movements back and forth count from `TURN` metres on; `TURNS` of them are oscillation."""

_HOLDS: Final = 0.035
_LOOSE, _TIGHT = 0.004, -0.020
"""Fingers hold an object whose centre is within `_HOLDS` metres of theirs while they are apart by
its width, up to these differences (metres)."""

_SLIP: Final = 3
"""Fingers that loosen for no longer than so many steps have not let go."""

_STILL: Final = 0.002
"""An object that moves less in a step is at rest (metres)."""


class Finding(NamedTuple):
    """What a rule found.

    Attributes:
        step: the control step at which it had gone wrong.
        numbers: what was measured, by name; lengths in cm, angles in degrees.
        sentence: the same for people.
    """

    step: int
    numbers: Mapping[str, float]
    sentence: str


@dataclass(frozen=True)
class Attempt:
    """A failed episode as rules look at it.

    Attributes:
        motion: what moved.
        events: the first step of every event.
        last: the last control step.
        held: (T + 1, m) whether the fingers hold each movable object.
        carries: each time that the named object was carried and let go: the first step without
            it in the hand, and its greatest height above where it began, metres.
        carried: whether it was ever carried.
    """

    motion: Motion
    events: Mapping[str, int]
    last: int
    held: Flags
    carries: tuple[tuple[int, float], ...]
    carried: bool

    @classmethod
    def of(cls, episode: Episode, motion: Motion) -> "Attempt":
        """What rules look at."""
        first: dict[str, int] = {}
        for event in episode.events:
            first.setdefault(event.name, event.step)
        widths = np.array([min(thing.size) for thing in motion.things[: motion.yaws.shape[1]]])
        slack = motion.opening[:, None] - widths
        held = (slack <= _LOOSE) & (slack >= _TIGHT) & (motion.distances < _HOLDS)
        raised = motion.raised[:, motion.named]
        carries = [
            (end, float(raised[start:end].max()))
            for start, end in _runs(held[:, motion.named], _SLIP)
            if raised[start:end].max() >= RAISED
        ]
        let_go = tuple(one for one in carries if one[0] <= episode.steps)
        return cls(motion, first, episode.steps, held, let_go, bool(carries))

    @property
    def others(self) -> list[int]:
        """The movable objects that are not named."""
        return [one for one in range(self.held.shape[1]) if one != self.motion.named]

    @property
    def named(self) -> str:
        """What the named object is called."""
        return self.name(self.motion.named)

    def name(self, thing: int) -> str:
        """What a thing is called."""
        return self.motion.things[thing].name


class Rule(NamedTuple):
    """A rule.

    Attributes:
        words: the rule for people.
        find: looks for what it is about; None where it is not there.
    """

    words: str
    find: Callable[[Attempt], Finding | None]


RULES: Final[Registry[Rule]] = Registry("failure label")
"""The rules by the label that each gives."""


def _rule(name: str, words: str) -> Callable[[Callable[[Attempt], Finding | None]], Rule]:
    return lambda find: RULES.add(name, Rule(words, find))


@_rule(
    "wrong object",
    "It went for another object: held it, moved it more than 2 cm with the named one not in "
    "the hand, or stayed within 4 cm of its centre for half a second before it touched the "
    "named one.",
)
def _wrong_object(attempt: Attempt) -> Finding | None:
    motion, others = attempt.motion, attempt.others
    if not others:
        return None
    found: list[tuple[int, int]] = []
    step = attempt.events.get("wrong_object")
    if step is not None and not attempt.held[step, motion.named]:
        found.append((step, _taken(attempt, step)))
    until = attempt.events.get("reached", attempt.last + 1)
    for other in others:
        near = motion.distances[:until, other] < NEAR
        found += [(a + DWELL - 1, other) for a, b in _runs(near) if b - a >= DWELL][:1]
    if not found:
        return None
    step, other = min(found)
    moved, away = _cm(motion.moved[step, other]), _cm(motion.distances[step, motion.named])
    how = "took hold of" if attempt.held[step, other] else "went for"
    aside = ", which is its target," if other == motion.target else ""
    return Finding(
        step,
        {"moved_cm": moved, "named_away_cm": away},
        f"It {how} the {attempt.name(other)}{aside} with the {attempt.named} {away} cm away.",
    )


def _taken(attempt: Attempt, step: int) -> int:
    """The object that the event of a wrong one was about."""
    held, moved = attempt.held[step], attempt.motion.moved[step]
    # What is to be stacked on may be moved, but not held.
    wrong = [
        one
        for one in attempt.others
        if held[one] or (one != attempt.motion.target and moved[one] > MOVED)
    ]
    return max(wrong or attempt.others, key=lambda one: (held[one], moved[one]))


@_rule(
    "let go beside",
    "It carried the named object (3 cm up or more) and let go of it at most 5 cm outside of "
    "its target, where it did not stay.",
)
def _let_go_beside(attempt: Attempt) -> Finding | None:
    for end, height in attempt.carries:
        outside = _cm(attempt.motion.outside[end])
        if attempt.motion.target is not None and outside <= 100 * BESIDE:
            high = _cm(attempt.motion.above[end - 1])
            return Finding(
                end,
                {"outside_cm": outside, "too_high_cm": high, "carried_cm": _cm(height)},
                f"It let go of the {attempt.named} {_where(outside, high)}.",
            )
    return None


@_rule(
    "dropped",
    "It carried the named object (3 cm up or more) and lost it more than 5 cm outside of its "
    "target, or with no target to put it on.",
)
def _dropped(attempt: Attempt) -> Finding | None:
    motion = attempt.motion
    for end, height in attempt.carries:
        outside, high = _cm(motion.outside[end]), _cm(motion.above[end - 1])
        numbers = {"height_cm": high, "carried_cm": _cm(height)}
        if motion.target is None:
            return Finding(end, numbers, f"It lost the {attempt.named} from {high} cm up.")
        if outside > 100 * BESIDE:
            return Finding(
                end,
                numbers | {"outside_cm": outside},
                f"It lost the {attempt.named} {outside} cm outside of its target.",
            )
    return None


@_rule(
    "knocked",
    "It toppled an object (more than 30 degrees from upright), shifted what it should have "
    "stacked on by more than 2 cm, or moved another object that far with the named one in its "
    "hand.",
)
def _knocked(attempt: Attempt) -> Finding | None:
    motion = attempt.motion
    steps = [attempt.events["knocked"]] if "knocked" in attempt.events else []
    bumped = attempt.events.get("wrong_object")
    if bumped is not None and attempt.held[bumped, motion.named]:
        steps.append(bumped)
    if not steps:
        return None
    step = min(steps)
    tilts, moved = motion.tilts[step], motion.moved[step]
    toppled = bool(tilts.max() > TOPPLED)
    thing = int(tilts.argmax()) if toppled else max(attempt.others, key=lambda one: moved[one])
    lean, way = _round(tilts[thing]), _cm(moved[thing])
    how = f"leans by {lean} degrees" if toppled else f"was moved by {way} cm"
    return Finding(
        step,
        {"tilt_degrees": lean, "moved_cm": way},
        f"The {attempt.name(thing)} {how}.",
    )


@_rule(
    "missed grasp",
    "It should have lifted the named object, and touched it, but never had it 3 cm up in its "
    "fingers; the step is half a second after the fingers were first told to close upon the "
    "touch.",
)
def _missed_grasp(attempt: Attempt) -> Finding | None:
    motion, reached = attempt.motion, attempt.events.get("reached")
    if not motion.lifts or reached is None or attempt.carried:
        return None
    shut = np.flatnonzero(~motion.opens[reached:])
    step = min(attempt.last, reached + int(shut[0]) + DWELL) if len(shut) else attempt.last
    raised = _cm(motion.raised[:, motion.named].max())
    held = int(attempt.held[:, motion.named].sum())
    return Finding(
        step,
        {"raised_cm": raised, "held_steps": float(held)},
        f"It touched the {attempt.named} and raised it by {raised} cm at most.",
    )


@_rule(
    "misplaced",
    "It moved the named object by more than 2 cm and left it outside of its target; the step "
    "is the last at which it moved or was held.",
)
def _misplaced(attempt: Attempt) -> Finding | None:
    motion = attempt.motion
    moved, outside = _cm(motion.moved[-1, motion.named]), _cm(motion.outside[-1])
    if motion.outside[-1] <= 0 or moved <= 100 * MOVED or attempt.held[-1, motion.named]:
        return None
    far = f"{outside} cm" if outside else "less than 0.1 cm"
    pace = np.linalg.norm(np.diff(motion.positions[:, motion.named], axis=0), axis=1)
    stirred = np.flatnonzero((pace > _STILL) | attempt.held[:-1, motion.named])
    return Finding(
        int(stirred[-1]) + 1 if len(stirred) else attempt.last,
        {"moved_cm": moved, "outside_cm": outside},
        f"It left the {attempt.named} {far} outside of its target, {moved} cm from where it had "
        "been.",
    )


@_rule(
    "held on",
    "It should have put the named object down, and had it in its fingers to the end.",
)
def _held_on(attempt: Attempt) -> Finding | None:
    motion = attempt.motion
    if motion.target is None or not attempt.held[-1, motion.named]:
        return None
    held = int(attempt.held[:, motion.named].sum())
    outside, high = _cm(motion.outside[-1]), _cm(motion.above[-1])
    return Finding(
        attempt.last,
        {"held_steps": float(held), "outside_cm": outside, "too_high_cm": high},
        f"It never let go of the {attempt.named}: at the end it held it {_where(outside, high)}.",
    )


@_rule(
    "oscillated",
    "To the end the hand moved back and forth: along one axis it turned round at least six "
    "times, more than 2 cm each.",
)
def _oscillated(attempt: Attempt) -> Finding | None:
    turns = [_turns(attempt.motion.gripper[:, axis]) for axis in range(3)]
    most = max(turns)
    if most < TURNS:
        return None
    axis = ("to and from the robot", "left and right", "up and down")[turns.index(most)]
    away = _cm(attempt.motion.distances[:, attempt.motion.named].min())
    return Finding(
        attempt.last,
        {"turns": float(most), "nearest_cm": away},
        f"The hand turned round {most} times, {axis}; {away} cm was its nearest to the "
        f"{attempt.named}.",
    )


@_rule(
    "never reached",
    "It never touched the named object.",
)
def _never_reached(attempt: Attempt) -> Finding | None:
    if "reached" in attempt.events:
        return None
    away = attempt.motion.distances[:, attempt.motion.named]
    nearest, step = _cm(away.min()), int(away.argmin())
    return Finding(
        attempt.last,
        {"nearest_cm": nearest, "nearest_step": float(step)},
        f"It came no nearer to the {attempt.named} than {nearest} cm, at step {step}.",
    )


@_rule(
    UNEXPLAINED,
    "The time was up, and none of the other rules tells why.",
)
def _timed_out(attempt: Attempt) -> Finding | None:
    away = _cm(attempt.motion.distances[-1, attempt.motion.named])
    return Finding(
        attempt.last,
        {"named_away_cm": away},
        f"The time was up with the hand {away} cm from the {attempt.named}.",
    )


class FailureLabel(NamedTuple):
    """Why an episode failed.

    Attributes:
        label: the rule whose step comes first.
        finding: what it found.
        later: every other rule that found something, by step; never `UNEXPLAINED`.
    """

    label: str
    finding: Finding
    later: tuple[tuple[str, Finding], ...] = ()

    @property
    def text(self) -> str:
        """Label, step and sentence, for people."""
        label = self.label[0].upper() + self.label[1:]
        return f"{label}, step {self.finding.step}: {self.finding.sentence}"


def label(episode: Episode) -> FailureLabel | None:
    """The automatic label of an episode.

    Returns:
        None for a success, for what was stopped or not judged, and where the suite's row does not
        tell what moved.
    """
    if not has_failed(episode.outcome.kind):
        return None
    motion = SUITES.get(episode.spec.suite).motion(episode)
    return explain(episode, motion) if motion else None


def has_failed(outcome: str) -> bool:
    """Whether an outcome of that kind is a failure."""
    return outcome not in ("success", "stopped", "not judged")


def explain(episode: Episode, motion: Motion) -> FailureLabel:
    """The label of a failed episode whose motion is known."""
    attempt = Attempt.of(episode, motion)
    found = [(name, finding) for name in RULES if (finding := RULES.get(name).find(attempt))]
    found.sort(key=lambda one: one[1].step)
    found = [one for one in found if one[0] != UNEXPLAINED] or found
    name, finding = found[0]
    return FailureLabel(name, finding, tuple(found[1:]))


def _runs(flags: Flags, gap: int = 0) -> list[tuple[int, int]]:
    """Where flags are true: first place, and the one after the last.

    Args:
        flags: (n,).
        gap: a break of at most so many places is none.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and start - runs[-1][1] <= gap:
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


def _turns(path: Array) -> int:
    """How often a coordinate came back by more than `TURN` from where it turned."""
    count, turned, way = 0, float(path[0]), 0.0
    for here in map(float, path):
        if way == 0.0:
            if abs(here - turned) > TURN:
                way, turned = float(np.sign(here - turned)), here
        elif way * (here - turned) > 0:
            turned = here
        elif way * (turned - here) > TURN:
            way, turned, count = -way, here, count + 1
    return count


def _where(outside: float, high: float) -> str:
    """Where an object is as its target sees it, both in cm."""
    side = f"{outside} cm outside of" if outside else "within the bounds of"
    return (
        f"{side} its target, {abs(high)} cm {'above' if high >= 0 else 'below'} where it would rest"
    )


def _cm(metres: float | np.floating) -> float:
    return _round(100 * float(metres))


def _round(value: float | np.floating) -> float:
    return round(float(value), 1)
