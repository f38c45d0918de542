"""What stands on the Ablations page, as links to its parts."""

import html
from collections.abc import Mapping


def contents_html(studies: Mapping[str, str]) -> str:
    """The links, in the order of the page.

    Args:
        studies: their questions by their names; none until they are read.
    """
    places = {
        "ablation": ("Matrix", "Success by what became of picture and sentence"),
        "curves": ("Curves", "How much of it can be taken"),
        "parts": ("Parts", "What each part is worth"),
        "paper-studies": ("Studies", "The paper's studies, run here"),
        **{f"study-{name}": (f"· {name}", question) for name, question in studies.items()},
        **({"predictors": ("· predictors", "What predicts control")} if studies else {}),
        "paper": ("The paper's numbers", "Tables and charts of the paper itself"),
    }
    links = "".join(
        f'<a href="ablations#{place}" title="{html.escape(title, quote=True)}">'
        f"{html.escape(text)}</a>"
        for place, (text, title) in places.items()
    )
    return f'<nav class="ab-contents" aria-label="On this page">{links}</nav>'
