"""What the live view is told about each moment."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from pages.run.live_view import Phase, Shown, encode, new_turn
from pages.run.result_card import as_data_url
from vlm4vla.agents.catalogue import label_of
from vlm4vla.core.episode import Episode, Outcome
from vlm4vla.live.film import last_picture
from vlm4vla.live.maps import METHODS, LiveMap
from vlm4vla.live.session import Frame, Waiting
from vlm4vla.live.switches import BLIND, SWAP
from vlm4vla.suites.tabletop.projection import VIEW_LENS, outlines
from vlm4vla.suites.tabletop.scene import Scene

_SWITCHED: Final = {
    BLIND: "It has been blind since step {}.",
    SWAP: "It has been told of another object since step {}.",
}


def recording(episode: Episode, film: Path, seen: Path | None, scene: Scene | None) -> Shown:
    """A stored episode, playing.

    Args:
        episode: which.
        film: its film for people.
        seen: its film of what the policy's camera saw; None where there is none.
        scene: where it happened; without it nothing can be outlined.
    """
    return Shown(
        new_turn(),
        "recording",
        agent=label_of(episode.agent),
        instruction=episode.spec.instruction,
        src=encode(last_picture(film)),
        step=episode.steps,
        events=episode.events,
        eye=encode(last_picture(seen)) if seen else "",
        video=as_data_url(film),
        seen=as_data_url(seen) if seen else "",
        label=f"Recording: {episode.outcome.sentence}",
        things=outlines(scene, VIEW_LENS) if scene else {},
    )


def waiting(shown: Shown, moment: Waiting) -> Shown:
    """No simulator yet."""
    if moment.place == 0:
        return replace(shown, phase="starting", note="The simulator is getting ready.")
    before = "You are next" if moment.place == 1 else f"You are number {moment.place} in the line"
    return replace(shown, phase="waiting", note=f"{before}: every simulator is in use.")


def still(shown: Shown, frame: Frame, scene: Scene) -> Shown:
    """A scene before anything moves."""
    things = [item.name for item in scene.objects] + [item.name for item in scene.fixtures]
    label = f"The robot's table with {', '.join(things)}"
    return replace(
        shown,
        src=encode(frame.view),
        eye=encode(frame.image),
        label=label,
        things=outlines(scene, VIEW_LENS),
    )


def at(shown: Shown, frame: Frame) -> Shown:
    """A step of a live episode."""
    said = [_SWITCHED[one.name].format(one.first_step) for one in frame.changes]
    return replace(
        _under_map(shown, frame),
        note=" ".join([shown.note, *said]),
        instruction=frame.told or shown.instruction,
        src=encode(frame.view),
        step=frame.step,
        limit=frame.limit,
        events=frame.events,
        label=f"Live picture: {shown.agent} carries out “{shown.instruction}”",
        timing=f"inference {frame.think_ms:.1f} ms · physics {frame.physics_ms:.0f} ms · "
        f"picture {frame.render_ms:.0f} ms",
    )


def _under_map(shown: Shown, frame: Frame) -> Shown:
    """What the model sees; under a map it is what it saw when it was asked last."""
    made = frame.map
    if not isinstance(made, LiveMap):
        reason = made.reason if made else ""
        return replace(shown, eye=encode(frame.image), cells=(), mapped=reason)
    # Where nothing matters, every cell is 0 and so is the largest.
    shares = made.scores.ravel() / (made.most or 1.0)
    return replace(
        shown,
        eye=encode(made.picture),
        cells=[round(float(one), 3) for one in shares],
        most=round(made.most, 2),
        mapped=(
            f"Over what it saw at step {made.step}: {METHODS[made.method]}. Orange carries the "
            f"action on its way, blue holds it back; full colour: {made.most:.1f} mm. Made in "
            f"{made.milliseconds:.0f} ms. {made.worth}"
        ),
    )


def ended(shown: Shown, outcome: Outcome) -> Shown:
    """The end of an episode, over its last picture."""
    phase: Phase = "failure"
    if outcome.success:
        phase = "success"
    elif outcome.kind == "stopped":
        phase = "stopped"
    elif outcome.kind == "not judged":
        phase = "unjudged"
    return replace(
        shown, phase=phase, note=outcome.sentence, src="", eye="", label=outcome.sentence
    )
