"""The diagnosis of an episode: a sentence or two from its lanes, by written rules, or nothing.

What went wrong first is said by the failure label (`vlm4vla.eval.failures`). The rules here say how
whoever acted left the way of the expert, in the order in which they are asked:

1. **Differs**: at a step, the commanded motion is more than `DIFFERS_MM` from the expert's at the
   same true state, or it commands the opposite of the fingers.
2. **Parting**: a departure begins with a step that differs, and lasts as long as in every `WINDOW`
   steps most differ. The parting is the beginning of the one that was under way at the step of the
   failure label, or that ended less than `WINDOW` steps before it; else, and where that step is the
   last, of the first one that lasts for `LASTS` steps or to the end. There is none in an episode
   that succeeded, or within the last `WINDOW` steps.
3. **Late fingers**: the expert closed them, whoever acted did so only `LATE` or more steps later,
   and moved as the expert would meanwhile.
4. **Another goal**: from the parting on at least `FOLLOWED` of the steps are within half of
   `DIFFERS_MM` of what the expert would do for another goal of the scene, and at most half as many
   are so near to what it would do for the goal that was asked for.
5. **Nowhere**: it came to rest further than `FAR` from every thing, seen from above, and near to
   one place (within `REST`) for the last `WINDOW` steps or more, and not only after it had gone
   wrong in another way.
6. **Aimed at another thing**: of the motions that go to a thing, at least `AIMED_SHARE` go to one
   that was not named, in the `AIMING` steps after the parting or in all steps after it. The motions
   that go to a thing must be `WINDOW` or more, and three in ten of the steps. The place where an
   object is to go counts as not named as long as that object is not held.
7. Else only how far its actions were from the expert's is said, and where nothing went wrong,
   nothing.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.episode import Outcome
from vlm4vla.eval.failures import FailureLabel
from vlm4vla.inspection.lanes import AIMED, Follower, Lanes
from vlm4vla.language.draw import goal_key
from vlm4vla.language.reading import judged_as
from vlm4vla.suites.tabletop.instructions import Goal

DIFFERS_MM: Final = 30.0
WINDOW: Final = 8
LASTS: Final = 16
LATE: Final = 3
FOLLOWED: Final = 0.6
FAR: Final = 0.060
REST: Final = 0.020
AIMING: Final = 16
AIMED_SHARE: Final = 0.75
ALIKE: Final = 0.75

Kind = Literal["", "as the expert", "late fingers", "another goal", "nowhere", "aimed elsewhere"]


@dataclass(frozen=True)
class Diagnosis:
    """What is said about an episode.

    Attributes:
        kind: the rule that said how it left the expert's way; "" where none did.
        sentences: what that rule says, or how far the actions were from the expert's, for people;
            "" where nothing is said.
        parting: the step at which it left the expert's way; None for never.
        park: the step to look at first: that of the failure label where it names a moment, else
            the parting, else where something is said about, else 0.
        about: the thing that the rule names, or "".
        failure: the failure label; None where the episode has none.
    """

    kind: Kind
    sentences: str
    parting: int | None
    park: int
    about: str = ""
    failure: FailureLabel | None = None


def diagnose(lanes: Lanes, outcome: Outcome, failure: FailureLabel | None = None) -> Diagnosis:
    """Says by the rules above what went on.

    Args:
        lanes: of the episode.
        outcome: how it ended.
        failure: what went wrong first, see `vlm4vla.eval.failures.label`.
    """
    wrong = failure.finding.step if failure else lanes.steps
    found = _against_the_expert(lanes, outcome, wrong)
    # A label at the end is about all of the episode: there is nothing to be seen at its step.
    park = wrong if failure and wrong < lanes.steps else found.park
    return replace(found, failure=failure, park=park)


def _against_the_expert(lanes: Lanes, outcome: Outcome, wrong: int) -> Diagnosis:
    asked = lanes.expert
    if asked is None:
        return Diagnosis("", "", None, 0)
    parting = parting_of(differs(asked), success=outcome.success, wrong=wrong)
    if late := _late(lanes, asked, parting):
        return late
    if parting is None:
        alike = int((~differs(asked)).sum())
        if outcome.success and alike >= ALIKE * lanes.steps:
            said = f"It acted as the expert would at {alike} of {lanes.steps} steps."
            return Diagnosis("as the expert", said, None, 0)
        return Diagnosis("", "", None, 0)
    return (
        _another_goal(lanes, asked, parting)
        or _nowhere(lanes, asked, parting, wrong)
        or _aimed(lanes, asked, parting)
        or Diagnosis("", _apart(lanes, asked, parting), parting, parting)
    )


def differs(asked: Follower) -> NDArray[np.bool_]:
    """(T,) whether what was done differs from what the expert would have done."""
    return (asked.millimetres > DIFFERS_MM) | ~asked.fingers


def parting_of(
    different: NDArray[np.bool_], *, success: bool, wrong: int | None = None
) -> int | None:
    """The step at which whoever acted left the expert's way, by the rule above.

    Args:
        different: (T,) see `differs`.
        success: whether the episode reached its goal.
        wrong: the step of the failure label; None for none.
    """
    steps = len(different)
    if success or steps < WINDOW:
        return None
    apart = np.lib.stride_tricks.sliding_window_view(different, WINDOW).mean(-1) > 0.5
    edges = np.flatnonzero(np.diff(np.r_[False, apart, False].astype(np.int8)))
    departures = []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        # The last window ends WINDOW - 1 steps further on.
        begin, until = first + int(different[first:].argmax()), end + WINDOW - 1
        if begin <= steps - WINDOW:
            departures.append((begin, until))
    if wrong is not None and wrong < steps:
        for begin, until in reversed(departures):
            if begin <= wrong < until + WINDOW:
                return begin
    for begin, until in departures:
        if until - begin >= LASTS or until == steps:
            return begin
    return None


def _late(lanes: Lanes, asked: Follower, parting: int | None) -> Diagnosis | None:
    closed = lanes.gripper < 0
    # The expert wants them closed where it is obeyed and they are, or is not and they are not.
    wanted = closed == asked.fingers
    waiting = wanted & ~closed & (asked.millimetres <= DIFFERS_MM)
    end = lanes.steps if parting is None else parting
    begins = waiting & ~np.r_[False, waiting[:-1]]
    for start in np.flatnonzero(begins[:end]):
        length = int(np.argmin(np.r_[waiting[start:end], False]))
        until = int(start) + length
        if length >= LATE and until < lanes.steps and closed[until] and wanted[until]:
            said = (
                f"It closed the fingers {length} steps later than the expert would have: at step "
                f"{until}, not at step {start}. Up to there it moved as the expert would."
            )
            return Diagnosis("late fingers", said, parting, int(start))
    return None


def _another_goal(lanes: Lanes, asked: Follower, parting: int) -> Diagnosis | None:
    others = [one for one in lanes.goals if one is not asked]
    shares = [_followed(one, parting) for one in others]
    if not others or max(shares) < FOLLOWED or _followed(asked, parting) > max(shares) / 2:
        return None
    # Goals about one object begin alike: of those that fit nearly as well, one of the asked task.
    fitting = [
        one for one, share in zip(others, shares, strict=True) if share >= max(shares) - 0.02
    ]
    fitting.sort(key=lambda one: one.goal.task != asked.goal.task)
    followed = fitting[0]
    share, away = _followed(followed, parting), float(np.median(asked.millimetres[parting:]))
    told = goal_name(followed.goal)
    said = (
        f"{_until(asked, parting)} it did what the expert would do for “{told}” ({share:.0%} of "
        f"the steps within {DIFFERS_MM / 2:.0f} mm), not for what was asked ({away:.0f} mm away)."
    )
    about = followed.goal.object
    if about == asked.goal.object and followed.goal.target:
        about = followed.goal.target
    return Diagnosis("another goal", said, parting, parting, about)


def _nowhere(lanes: Lanes, asked: Follower, parting: int, wrong: int) -> Diagnosis | None:
    tips, things = lanes.tips[:, :2], lanes.positions[-1, :, :2]
    end = tips[-1]
    resting = np.hypot(*(tips[parting:] - end).T) < REST
    rested = int(np.argmin(np.r_[resting[::-1], False]))
    apart = np.hypot(*(things - end).T)
    if rested < WINDOW or apart.min() < FAR or lanes.steps - rested > wrong:
        return None
    x, y = 100 * end
    said = (
        f"{_until(asked, parting)} it went to a place where nothing stands and stayed there "
        f"(x {x:.0f} cm, y {y:.0f} cm; the nearest thing, the {lanes.things[int(apart.argmin())]}, "
        f"is {100 * apart.min():.0f} cm away)."
    )
    return Diagnosis("nowhere", said, parting, parting)


def _aimed(lanes: Lanes, asked: Follower, parting: int) -> Diagnosis | None:
    goal = asked.goal
    wanted = lanes.things.index(goal.object)
    if goal.target and wanted in lanes.held[parting:]:
        # On its way to the object it may pass over the place, and the other way round.
        named = {goal.object, goal.target}
        if lanes.held[parting] == wanted:
            wanted = lanes.things.index(goal.target)
    else:
        named = {goal.object}
    for end in (min(parting + AIMING, lanes.steps), lanes.steps):
        aims = lanes.aims_at[parting:end]
        known = aims[aims >= 0]
        if len(known) < max(WINDOW, 0.3 * len(aims)):
            continue
        [(thing, times)] = Counter(known.tolist()).most_common(1)
        if times >= AIMED_SHARE * len(known) and lanes.things[thing] not in named:
            angles = lanes.angles[parting:end]
            # Over a thing any way leads to it, so the angles there say nothing.
            angles = angles[(aims == thing) & (angles[:, thing] <= AIMED)]
            said = (
                f"{_until(asked, parting)} it aimed at the {lanes.things[thing]}"
                f"{_angle(angles[:, thing])}, not the {lanes.things[wanted]}"
                f"{_angle(angles[:, wanted])}."
            )
            return Diagnosis("aimed elsewhere", said, parting, parting, lanes.things[thing])
    return None


def _apart(lanes: Lanes, asked: Follower, parting: int) -> str:
    """How the actions after the parting differ from the expert's: in the fingers, or in the way."""
    here = slice(parting, parting + WINDOW)
    if asked.fingers[here].mean() < 0.5:
        told = "open" if lanes.gripper[here].mean() > 0 else "close"
        other = "closed" if told == "open" else "opened"
        how = f"it told the fingers to {told} where the expert would have {other} them"
    else:
        how = f"its commands were {np.median(asked.millimetres[here]):.0f} mm from the expert's"
    return f"{_until(asked, parting)} {how}."


def _followed(one: Follower, parting: int) -> float:
    near = (one.millimetres <= DIFFERS_MM / 2) & one.fingers
    return float(near[parting:].mean())


def _until(asked: Follower, parting: int) -> str:
    if parting == 0:
        return "From the first step on"
    if differs(asked)[:parting].mean() > 1 - ALIKE:
        return f"From step {parting} on"
    until = f"step {parting - 1}" if parting > 1 else "the first step"
    return f"Up to {until} it acted as the expert would. From step {parting} on"


def _angle(degrees: NDArray[np.float64]) -> str:
    if np.isnan(degrees).all():
        return ""
    return f" ({np.nanmedian(degrees):.0f}°)"


def goal_name(goal: Goal) -> str:
    """A goal as a plain sentence."""
    return judged_as(goal_key(goal.task, goal.object, goal.target))
