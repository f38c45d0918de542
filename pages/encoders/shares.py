"""Where encoders look, on the Encoders page: shares on the named object, layer by layer."""

import html
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.events import Dependency

from pages.csv_link import csv_link
from pages.encoders import plots
from pages.message import message_html
from vlm4vla.errors import UserError
from vlm4vla.representations.results import SHIPPED, read_shares
from vlm4vla.representations.summary import encoders, share_line, share_sentence, to_csv

_EMPTY: Final = (
    "Nothing is known of where encoders look. Run `vlm4vla represent --checkpoint qwen3vl-tiny "
    "vlm-init --out assets/representations`."
)

_SHOWN: Final = 4
"""Encoders drawn at first."""

_METHOD: Final = """\
Explained are first inferences, where the arm stands as it starts. *Vision* is **Grad-CAM** at each
block of the vision tower, for how far the first action goes its own way; a VLM that is no policy
has no action that could be explained. *Query* is the **attention** of the action query in each
block of the language model, the mean of its heads, as a share of what goes to image tokens at all;
a VLM that is no policy yet has a query of zeros. A map that is the same
everywhere has the object's area on it. Intervals are over scenes (95 %, Student's t), the tasks of
a scene averaged; nothing is adjusted for the number of layers. A map that lies on the object need
not be true: see [which maps deserve trust](encoders#trust), which also has the shares of methods
that know no layers, such as occlusion. kosmos-2 has no row: each of its image tokens has seen the
whole picture.
"""


def section(opened: Dependency, folder: Path = SHIPPED) -> None:
    """Lays the section out; it only reads what `vlm4vla represent` wrote.

    Args:
        opened: the event after which it is filled.
        folder: where the rows are.
    """
    gr.Markdown("## Where they look", elem_id="shares")
    said = gr.HTML("", elem_id="shares-answer")
    plot = gr.Plot(visible=False, show_label=False, elem_id="shares-layers")
    below = gr.HTML("", elem_id="shares-below")
    gr.Markdown(_METHOD)
    opened.then(
        lambda: answer(folder),
        outputs=[said, plot, below],
        show_progress="hidden",
        api_visibility="private",
    )


def answer(folder: Path) -> list[Any]:
    """Updates of the section's parts."""
    try:
        rows = read_shares(folder)
    except UserError as error:
        return [message_html(str(error)), gr.Plot(visible=False), ""]
    if not rows:
        return [message_html(_EMPTY), gr.Plot(visible=False), ""]
    shown = encoders(rows)[:_SHOWN]
    told = [share_sentence(rows, shown, method) for method in ("attention", "grad-cam")]
    first = rows[0]
    every = [
        row
        for name in encoders(rows)
        for method in ("grad-cam", "attention")
        for row in share_line(rows, name, method)
    ]
    return [
        f'<p class="ea">{html.escape(told[0])}</p><p class="ea-more">{html.escape(told[1])}</p>',
        gr.Plot(plots.shares(rows, shown), visible=True),
        f"<p>n = {first.n} test seeds, {first.inferences} inferences. Made by "
        f"<code>{html.escape(first.command)}</code></p>"
        f"<p>{csv_link('shares.csv', to_csv(every))}</p>",
    ]
