"""The line below the sentence: how it is read, while one types."""

from pathlib import Path
from typing import Any, Final

import gradio as gr

from vlm4vla.language.reading import Reading

_TEMPLATE: Final = '<p class="rl" role="status"></p>'


def reading_line() -> gr.HTML:
    """The component; its value is what `told` makes, or None for nothing."""
    return gr.HTML(
        None,
        html_template=_TEMPLATE,
        js_on_load=(Path(__file__).parent / "reading_line.js").read_text(),
        apply_default_css=False,
        elem_id="reading",
        elem_classes="reading-line",
    )


def told(reading: Reading) -> dict[str, Any]:
    """What is sent to the browser: the reading for people, and what to outline in the picture."""
    return {"kind": reading.kind, "text": in_words(reading), "things": list(reading.things)}


def in_words(reading: Reading) -> str:
    """A reading as one or two sentences for people."""
    said = {
        "known": "A sentence of the kind that training holds.",
        "understood": f"Understood: {reading.judged_as}.",
        "not judged": f"{reading.sentence} It can be run, but success is not judged.",
    }[reading.kind]
    mended = ", ".join(f"“{typed}” as “{read}”" for typed, read in reading.mended)
    return f"{said} Read {mended}." if mended else said
