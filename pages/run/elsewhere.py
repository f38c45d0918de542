"""The strip below the live view: the same sentence in other scenes, a small picture each."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import gradio as gr
import numpy as np
from PIL import Image

from pages.run.live_view import encode
from vlm4vla.core.episode import Outcome
from vlm4vla.core.observation import Image as Picture
from vlm4vla.live.elsewhere import SCENES
from vlm4vla.statistics import wilson

BUTTON: Final = f"Same sentence in {SCENES} scenes"

_SIDE: Final = 96
"""Of a small picture, in pixels."""

_TEMPLATE: Final = """
<section class="es" aria-label="The same sentence in other scenes" hidden>
  <p class="es-told" role="status"></p>
  <ol class="es-scenes"></ol>
</section>
"""


@dataclass(frozen=True)
class Played:
    """One of the scenes.

    Attributes:
        scene: what it is called.
        state: "now", "success", "failure", "unjudged" or "stopped".
        badge: the same in words.
        picture: the newest picture, a JPEG in base64.
        run: id of the kept episode; "" before, or where it was not kept.
    """

    scene: str
    state: str = "now"
    badge: str = "live"
    picture: str = ""
    run: str = ""


def strip() -> gr.HTML:
    """The component; its value is what `told` makes, or None for nothing."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=(Path(__file__).parent / "elsewhere.js").read_text(),
        apply_default_css=False,
        elem_id="scenes",
        elem_classes="other-scenes",
    )


def small(picture: Picture) -> str:
    """A picture for the strip."""
    shrunk = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return encode(np.asarray(shrunk))


def over(played: Played, outcome: Outcome) -> Played:
    """A scene whose episode is over."""
    state, badge = "failure", f"not done: {outcome.kind.replace('_', ' ')}"
    if outcome.success:
        state = badge = "success"
    elif outcome.kind in ("stopped", "not judged"):
        state, badge = outcome.kind.replace("not judged", "unjudged"), outcome.kind
    return replace(played, state=state, badge=badge)


def told(scenes: list[Played], wanted: int, ended: bool) -> dict[str, Any]:
    """What is sent to the browser.

    Args:
        scenes: those that were begun, in order.
        wanted: how many there may be.
        ended: no more will come.
    """
    return {"told": summary(scenes, wanted, ended), "scenes": [asdict(scene) for scene in scenes]}


def summary(scenes: list[Played], wanted: int, ended: bool) -> str:
    """How often it succeeded, with the interval, over the episodes that were carried out."""
    done = [scene for scene in scenes if scene.state in ("success", "failure")]
    if not done:
        return "The same sentence in other scenes: none is done yet."
    rate = wilson(sum(scene.state == "success" for scene in done), len(done))
    interval = f"(95 % {100 * rate.low:.0f} to {100 * rate.high:.0f} %)"
    words = f"The same sentence in other scenes: {rate.successes} of {rate.n} {interval}"
    if ended:
        short = f"; {wanted} were wanted" if len(done) < wanted else ""
        return f"{words}{short}."
    return f"{words} so far, of {wanted}."
