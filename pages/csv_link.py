"""Links that hold their file: the numbers behind a plot, as CSV, so that none is served."""

import base64
import html
from typing import Final

PLOTTED: Final = "What the plot shows, as CSV"


def csv_link(name: str, content: str, text: str = PLOTTED, *, css: str = "") -> str:
    """A link that saves a file.

    Args:
        name: of the file.
        content: what it holds, as CSV.
        text: of the link.
        css: its class; "" for none.
    """
    held = base64.b64encode(content.encode()).decode()
    kind = f'class="{css}" ' if css else ""
    return (
        f'<a {kind}download="{html.escape(name, quote=True)}" '
        f'href="data:text/csv;base64,{held}">{html.escape(text)}</a>'
    )
