"""One object to be moved over the table, on the Encoders page: the pictures were read before."""

from pathlib import Path
from typing import Final

import gradio as gr

from vlm4vla.representations.drag import FILE
from vlm4vla.representations.results import SHIPPED

_FOLDER: Final = Path(__file__).parent

_EMPTY: Final = (
    "No object has been moved yet. Run `vlm4vla represent --checkpoint qwen3vl-tiny internvl-tiny "
    "paligemma-tiny --drag --out assets/representations`."
)

_METHOD: Final = """\
Everything but the named object stays as the scene starts, the robot too; nothing is simulated, and
places at which it would meet another object are left out. Every picture was drawn and read by
each encoder. The probes are linear ones, fitted to where the named object is in other scenes, as
below; *query* is where the sentence has been read, and the last one is what the action head reads.
How far a patch moved is the distance of its token from the same token at the start.
"""


def section(folder: Path = SHIPPED) -> None:
    """Lays the section out; the browser fetches its pictures once, and nothing while one drags.

    Args:
        folder: where `vlm4vla represent --drag` left its file.
    """
    gr.Markdown("## Move an object", elem_id="drag")
    gr.HTML(
        {"problem": "" if (folder / FILE).is_file() else _EMPTY},
        html_template=(_FOLDER / "drag.html").read_text("utf-8"),
        js_on_load=(_FOLDER / "drag.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="encoder-drag",
        elem_classes="encoder-drag",
    )
    gr.Markdown(_METHOD)
