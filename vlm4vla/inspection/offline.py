"""One self-contained page of an episode: scrubs without a server, with the app's own viewer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent

TEMPLATE: Final = (_HERE / "viewer.html").read_text("utf-8")
SCRIPT: Final = (_HERE / "viewer.js").read_text("utf-8")
STYLE: Final = _HERE / "viewer.css"
"""The viewer: its elements, what moves them, and the file of what they look like."""

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>VLM4VLA: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font-family: system-ui, sans-serif; margin: 16px auto; max-width: 1240px; }}
main {{ padding: 0 12px; }}
{style}
</style>
</head>
<body>
<main class="inspect-view" id="viewer">{template}</main>
<script type="application/json" id="value">{value}</script>
<script>
(() => {{
const element = document.getElementById('viewer');
const props = {{ value: JSON.parse(document.getElementById('value').textContent) }};
const watch = () => {{}};
const trigger = () => {{}};
{script}
}})();
</script>
</body>
</html>
"""


def offline_page(value: Mapping[str, Any]) -> str:
    """The page of a payload.

    Args:
        value: as `vlm4vla.inspection.payload.payload` makes it.
    """
    # "<" ends a script element wherever it stands.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.format(
        title=str(value["id"]),
        style=STYLE.read_text("utf-8"),
        template=TEMPLATE,
        value=text,
        script=SCRIPT,
    )
