"""What the live view is told about each moment."""

from dataclasses import replace
from pathlib import Path

from pages.live_view import Phase, Shown, encode, new_turn
from pages.result_card import as_data_url
from vlm4vla.eval.cast import label_of
from vlm4vla.eval.film import last_picture
from vlm4vla.eval.live import Frame, Waiting
from vlm4vla.eval.outcome import Outcome
from vlm4vla.eval.store import Record
from vlm4vla.suites.tabletop.scene import Scene


def recording(record: Record, video: Path) -> Shown:
    """A stored episode, playing."""
    return Shown(
        new_turn(),
        "recording",
        driver=label_of(record.driver),
        instruction=record.instruction,
        src=encode(last_picture(video)),
        step=record.steps,
        happenings=record.happenings,
        video=as_data_url(video),
        label=f"Recording: {record.sentence}",
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
    return replace(shown, src=_picture(frame), label=f"The robot's table with {', '.join(things)}")


def at(shown: Shown, frame: Frame) -> Shown:
    """A step of a live episode."""
    return replace(
        shown,
        src=_picture(frame),
        step=frame.step,
        limit=frame.limit,
        happenings=tuple((item.step, item.event) for item in frame.happenings),
        timing=f"driver {frame.driver_ms:.1f} ms · physics {frame.physics_ms:.0f} ms · "
        f"picture {frame.render_ms:.0f} ms",
    )


def ended(shown: Shown, outcome: Outcome) -> Shown:
    """The end of an episode, over its last picture."""
    phase: Phase = "failure"
    if outcome.success:
        phase = "success"
    elif outcome.kind == "stopped":
        phase = "stopped"
    return replace(shown, phase=phase, note=outcome.sentence, src="")


def _picture(frame: Frame) -> str:
    # The policy's camera takes a picture only if it was asked for.
    return encode(frame.view if frame.image is None else frame.image)
