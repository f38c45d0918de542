"""The live picture: a canvas that is fed frame by frame, and the facts below it."""

import base64
import io
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import gradio as gr
from PIL import Image

from vlm4vla.core.episode import Event
from vlm4vla.core.observation import Image as Picture

Phase = Literal[
    "recording",
    "starting",
    "waiting",
    "still",
    "live",
    "success",
    "failure",
    "unjudged",
    "stopped",
    "error",
]

_BADGES: Final[dict[Phase, str]] = {
    "recording": "recording",
    "starting": "getting ready",
    "waiting": "in the line",
    "still": "scene",
    "live": "live",
    "success": "success",
    "failure": "not done",
    "unjudged": "not judged",
    "stopped": "stopped",
    "error": "problem",
}

_JPEG_QUALITY: Final = 85

_TEMPLATE: Final = """
<div class="lv-pictures">
  <div class="lv-picture">
    <canvas class="lv-view" width="384" height="384" role="img" aria-label="The robot's table">
    </canvas>
    <video class="lv-video" muted loop playsinline hidden></video>
    <div class="lv-outlines"></div>
    <span class="lv-phase"></span>
    <span class="lv-instruction"></span>
    <div class="lv-track"><div class="lv-bar"></div></div>
  </div>
  <div class="lv-side">
    <figure class="lv-model">
      <canvas class="lv-eye" width="128" height="128" role="img" aria-label="What the model sees">
      </canvas>
      <figcaption><b class="lv-seen"></b> All of it: 128 x 128 pixels.</figcaption>
    </figure>
    <p class="lv-cell" role="status"></p>
    <p class="lv-map"></p>
    <p class="lv-facts"><span class="lv-agent"></span></p>
    <p class="lv-facts"><span class="lv-step"></span><span class="lv-timing"></span></p>
  </div>
</div>
<p class="lv-note" role="status"></p>
<ol class="lv-events" aria-label="Events, each with its step"></ol>
"""


@dataclass(frozen=True)
class Shown:
    """What the live view is told.

    Attributes:
        turn: counts up; what belongs to an older turn is ignored.
        phase: what is going on.
        note: the same as a sentence.
        agent: who acts.
        instruction: what the agent was told.
        src: the new picture, a JPEG in base64; "" keeps the one that is there.
        eye: the policy camera's picture of the same step, likewise.
        step: control steps so far.
        limit: steps until the episode times out; 0 hides the count.
        events: what has happened so far.
        timing: what the time went into.
        label: what the picture shows, for those who cannot see it; "" keeps the one before.
        video: an MP4 as a data URL that plays over `src` until the next picture comes.
        seen: the policy camera's MP4 of the same frames, which plays over `eye` in step with it.
        things: the box of each thing in the picture of the scene as it starts: left, top, width
            and height as shares; what a sentence names is outlined there, and a thing that is
            pointed at is named in a sentence.
        cells: (64,) a map over the policy's picture, by rows: -1 to 1, the sign as the score's.
        most: the score of a cell at 1, in millimetres.
        mapped: what that map is, or why there is none; "" where nobody wants one.
    """

    turn: int
    phase: Phase
    note: str = ""
    agent: str = ""
    instruction: str = ""
    src: str = ""
    eye: str = ""
    step: int = 0
    limit: int = 0
    events: tuple[Event, ...] = ()
    timing: str = ""
    label: str = ""
    video: str = ""
    seen: str = ""
    things: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    cells: Sequence[float] = ()
    most: float = 0.0
    mapped: str = ""


def live_view(first: Shown) -> gr.HTML:
    """The component; its value is what `message` makes.

    Not a subclass of `gr.HTML`: Gradio writes a stub file beside the source of each subclass.
    """
    return gr.HTML(
        message(first),
        html_template=_TEMPLATE,
        js_on_load=(Path(__file__).parent / "live_view.js").read_text(),
        apply_default_css=False,
        elem_id="live",
        elem_classes="live-view",
    )


def message(shown: Shown) -> dict[str, Any]:
    """What is sent to the browser."""
    return {**asdict(shown), "badge": _BADGES[shown.phase], "events": happened(shown.events)}


def happened(events: Sequence[Event]) -> list[tuple[str, str]]:
    """Each event once, in the order of its first time, and in words with its steps."""
    steps: dict[str, list[int]] = {}
    for step, name in events:
        steps.setdefault(name, []).append(step)
    return [(name, _in_words(name.replace("_", " "), when)) for name, when in steps.items()]


def _in_words(name: str, steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"{name}, step {steps[0]}"
    return f"{name} {len(steps)} times, steps {steps[0]} to {steps[-1]}"


_turns = itertools.count(time.time_ns() // 1_000_000)
"""From the clock, so that a page that was open before the server was started again listens."""


def new_turn() -> int:
    """The number of a new turn."""
    return next(_turns)


def encode(picture: Picture) -> str:
    """A picture as a JPEG in base64."""
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "jpeg", quality=_JPEG_QUALITY)
    return base64.b64encode(target.getvalue()).decode()
