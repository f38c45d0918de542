"""The line that tells that the table does not hold all of its episodes yet."""

from collections.abc import Callable
from typing import Any, Final

import gradio as gr

SENTENCE: Final = (
    "The episodes that come with the app are being read, once, which takes a minute or more: {} of "
    "{} files so far. The page is loaded again when all are there."
)

_TEMPLATE: Final = '<p class="message" role="status" hidden></p>'
_SCRIPT: Final = """
const line = element.querySelector('p');
let told = false;
function tell() {
  if (told && !props.value) location.reload();
  told = Boolean(props.value);
  line.hidden = !told;
  line.textContent = props.value || '';
}
tell();
watch('value', tell);
"""


def build(page: gr.Blocks, progress: Callable[[], tuple[int, int] | None]) -> None:
    """Lays the line out; the page is loaded again when the table is whole.

    Args:
        page: the `gr.Blocks` of the page.
        progress: files of shipped results that were read and of how many; None for all.
    """
    line = gr.HTML(
        "",
        html_template=_TEMPLATE,
        js_on_load=_SCRIPT,
        apply_default_css=False,
        elem_id="filling",
    )
    clock = gr.Timer(1.0, active=False)

    def look() -> tuple[str, gr.Timer]:
        found = progress()
        return SENTENCE.format(*found) if found else "", gr.Timer(active=found is not None)

    told: dict[str, Any] = {
        "outputs": [line, clock],
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    page.load(look, **told)
    clock.tick(look, **told)
