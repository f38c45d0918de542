"""The Inspect page: one episode, step by step, and why it went as it did."""

from pathlib import Path
from typing import Any, Final

import gradio as gr

from pages.inspect.handlers import Handlers
from pages.inspect.layout import lay_out
from pages.services import Services
from vlm4vla.inspection.offline import STYLE as VIEWER_STYLE
from vlm4vla.inspection.shelf import Bundles

STYLES: Final = (VIEWER_STYLE, Path(__file__).parent / "style.css")
"""What the page looks like: the viewer, which exported pages have, too, and what is around it."""

_STEP: Final = """(...given) => {
  const shown = document.querySelector('.inspect-view[data-step], .inspect-view [data-step]');
  given[1] = Number(shown?.dataset.step ?? 0);
  return given;
}"""
"""Puts the step that the viewer shows among the inputs of an event."""


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out and says what happens at which event.

    Args:
        page: the `gr.Blocks` that it is built in.
        services: what it is built from.
    """
    parts = lay_out()
    on = Handlers(parts, services, Bundles())
    streaming: dict[str, Any] = {
        "outputs": parts.written(),
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    asked = [parts.run, parts.step, parts.sentence, parts.agent, parts.change]
    gr.on(
        [parts.branch.click, parts.sentence.submit],
        on.branch_off,
        asked,
        js=_STEP,
        **streaming,
    )
    parts.expert.click(on.hand_over, asked[:2], js=_STEP, **streaming)
    # A choice ends what the one before it has begun, so it must not wait for it.
    parts.viewer.select(on.choose_maps, parts.run, trigger_mode="multiple", **streaming)
    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    parts.offered.click(on.choose_sentence, parts.offered, parts.sentence, **private)
    parts.zip.click(on.save_zip, parts.run, parts.saved, **private)
    parts.page.click(on.save_page, parts.run, parts.saved, **private)
    page.load(on.first_sight, **streaming)
