"""How an episode ended, in a sentence, from the simulator's events."""

from collections.abc import Sequence
from typing import Final, Literal

from vlm4vla.core.episode import Event, Outcome
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.vocabulary import kind_of

Kind = Literal[
    "success",
    "wrong object",
    "dropped",
    "knocked",
    "not reached",
    "not grasped",
    "out of time",
    "stopped",
    "not judged",
]

CONTROL_HZ: Final = 20
"""Control steps in a second of the robot's time."""

_NEEDS_GRASP: Final[tuple[Task, ...]] = ("pick", "place", "stack")


def judge(goal: Goal | None, events: Sequence[Event], steps: int, *, stopped: bool) -> Outcome:
    """Judges an episode by what happened in it; measures whether a wrong object was moved.

    Args:
        goal: what it was about; None where nothing could be judged, which is then only told.
        events: what happened, in order.
        steps: control steps that were carried out.
        stopped: a person ended it early.
    """
    if goal is None:
        return _told(events, steps, stopped=stopped)
    names = {event.name for event in events}
    kind = _kind(goal, names, stopped=stopped)
    sentence = _sentence(kind, goal, names, steps)
    return Outcome(kind, sentence, {"wrong_object": "wrong_object" in names})


def _told(events: Sequence[Event], steps: int, *, stopped: bool) -> Outcome:
    """What happened in an episode that is not judged."""
    deeds = []
    for event in events:
        verb, _, thing = event.name.partition(" ")
        if thing:
            deeds.append(f"{verb} the {thing} at step {event.step}")
    if stopped:
        done = f" The robot {_joined(deeds)} before." if deeds else ""
        return Outcome("stopped", f"Stopped after {steps} steps.{done}")
    took = f"{steps} steps ({steps / CONTROL_HZ:.1f} s of the robot's time)"
    done = f"the robot {_joined(deeds)}" if deeds else "the robot touched nothing"
    return Outcome("not judged", f"Not judged. In {took} {done}.")


def _joined(parts: Sequence[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _kind(goal: Goal, events: set[str], *, stopped: bool) -> Kind:
    if "success" in events:
        return "success"
    if stopped:
        return "stopped"
    # The likeliest cause first: an arm that drops or topples things rarely is in time.
    if "wrong_object" in events:
        return "wrong object"
    if "dropped" in events:
        return "dropped"
    if "knocked" in events:
        return "knocked"
    if "reached" not in events:
        return "not reached"
    if goal.task in _NEEDS_GRASP and "grasped" not in events:
        return "not grasped"
    return "out of time"


def _sentence(kind: Kind, goal: Goal, events: set[str], steps: int) -> str:
    thing = f"the {goal.object}"
    took = f"{steps} steps ({steps / CONTROL_HZ:.1f} s of the robot's time)"
    if kind == "success":
        aside = ", but moved another object on the way" if "wrong_object" in events else ""
        return f"The robot {_deed(goal)} in {took}{aside}."
    if kind == "stopped":
        return f"Stopped after {steps} steps, before the robot {_deed(goal)}."
    began = f"it had hold of {thing}" if "grasped" in events else f"it touched {thing}"
    why = {
        "wrong object": f"it moved an object other than {thing}",
        "dropped": f"it dropped {thing} on the way",
        "knocked": "it knocked something over",
        "not reached": f"it never touched {thing}",
        "not grasped": f"it touched {thing} but did not get hold of it",
        "out of time": f"{began}, but there was no time left for the rest",
    }[kind]
    return f"After {took} the robot had not {_deed(goal)}: {why}."


def _deed(goal: Goal) -> str:
    thing, target = f"the {goal.object}", f"the {goal.target}"
    if goal.task == "reach":
        return f"touched {thing}"
    if goal.task == "pick":
        return f"lifted {thing}"
    if goal.task == "push":
        return f"pushed {thing} into {target}"
    if goal.task == "stack":
        return f"stacked {thing} on {target}"
    return f"put {thing} {'in' if kind_of(goal.target or '') == 'bowl' else 'on'} {target}"
