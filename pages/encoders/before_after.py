"""What learning to act did to encoders, on the Encoders page: the measured cells of the studies."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import gradio as gr
from gradio.events import Dependency

from pages.csv_link import csv_link
from pages.encoders.before_after_plots import by_layer, overview
from pages.message import message_html
from vlm4vla.representations.summary import with_unit
from vlm4vla.studies.before_after import CellChange, changes, tally, to_csv
from vlm4vla.studies.measures import NAMED, PROBED, PROJECTOR
from vlm4vla.studies.registry import STUDIES

_FOLDER: Final = Path(__file__).parent

STUDY: Final = "trained-study"
CELL: Final = "trained-cell"
TARGET: Final = "trained-target"
"""What they are called in the address; see `address.js`."""

_CONCEPTS: Final = [(one.meaning, one.name) for one in PROBED]

_EMPTY: Final = (
    "No cell has been measured yet. Run `vlm4vla study run initialisation --data CACHE`, which "
    "trains, evaluates and measures cells, or `vlm4vla study measure` where they were trained."
)

_METHOD: Final = """\
A cell is one policy's training, as [Ablations](ablations#studies) lists them. *Before* is what that
training began with: the VLM, new weights, or the VLM that had first learned action tokens. The
linear probes are fitted anew on either side, to the same pictures of 600 test scenes, and judged on
a quarter of them; intervals are bootstraps over scenes (95 %). That two intervals overlap is no
test, and a cell is one training: another training seed may come out otherwise. CKA is that of a
layer after training with the same layer before: 1 where a rotation turns one into the other.
"""


def section(opened: Dependency) -> None:
    """Lays the section out; it only reads what `vlm4vla study measure` wrote.

    Args:
        opened: the event after which it is filled.
    """
    gr.Markdown("## Before and after learning to act", elem_id="trained")
    said = gr.HTML("", elem_id="trained-answer")
    with gr.Row(elem_id="trained-controls"):
        cell = gr.Dropdown([], label="Cell of a study", scale=3, min_width=280)
        target = gr.Dropdown(
            _CONCEPTS, value=NAMED, label="A layer is asked", scale=2, min_width=280
        )
    layers = gr.Plot(visible=False, show_label=False, elem_id="trained-layers")
    below = gr.HTML("", elem_id="trained-below")
    gr.Markdown("### All measured cells, at the projector")
    told = gr.HTML("", elem_id="trained-tally")
    cells = gr.Plot(visible=False, show_label=False, elem_id="trained-cells")
    listed = gr.HTML("", elem_id="trained-list")
    gr.Markdown(_METHOD)
    address = gr.HTML(
        None,
        html_template="",
        js_on_load=_script("section_address.js") + _script("before_after.js"),
        elem_id="trained-address",
        visible="hidden",
    )
    outputs = [said, cell, target, layers, below, told, cells, listed, address]

    def first_sight(request: gr.Request) -> list[Any]:
        return answer({k: str(v) for k, v in request.query_params.items()})

    def choose(which: str | None, asked: str) -> list[Any]:
        study, _, name = (which or "").partition("/")
        return answer({STUDY: study, CELL: name, TARGET: asked})

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    opened.then(first_sight, outputs=outputs, **quiet)
    gr.on(
        [cell.input, target.input],
        choose,
        [cell, target],
        outputs,
        trigger_mode="always_last",
        **quiet,
    )


def _script(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")


def answer(asked: Mapping[str, str]) -> list[Any]:
    """Updates of the section's parts for an address.

    Args:
        asked: parameters by name: `STUDY`, `CELL` and `TARGET`; what is missing or unknown is
            chosen.
    """
    concept = asked.get(TARGET, "")
    concept = concept if concept in {one.name for one in PROBED} else NAMED
    # The choice of the learning rate compares nothing: the grids come first.
    found = changes(sorted(STUDIES.values(), key=lambda one: not one.contrasts), concept)
    missing = _not_measured(asked.get(CELL, ""), found)
    if not found:
        said = message_html(missing or _EMPTY)
        hidden = gr.Plot(visible=False)
        menus = [gr.Dropdown([], value=None), gr.Dropdown(_CONCEPTS, value=concept)]
        return [said, *menus, hidden, "", "", hidden, "", None]
    chosen = None if missing else _chosen(found, asked)
    menu = gr.Dropdown(
        [(one.label, _key(one)) for one in found], value=_key(chosen) if chosen else None
    )
    about = {TARGET: concept}
    if chosen:
        about |= {STUDY: chosen.study, CELL: chosen.member.cell.name}
    return [
        _said(chosen) if chosen else message_html(missing),
        menu,
        gr.Dropdown(_CONCEPTS, value=concept),
        gr.Plot(by_layer(chosen), visible=True) if chosen else gr.Plot(visible=False),
        _below(chosen) if chosen else "",
        f"<p>{html.escape(tally(found))} A press on a point opens the cell's episodes.</p>",
        gr.Plot(overview(found, href_of), visible=True),
        _listed(found),
        about,
    ]


def href_of(change: CellChange) -> str:
    """Where a cell's episodes are."""
    return f"ablations?{urlencode({'study-cell': change.member.cell.name})}#study-cell"


def _key(change: CellChange) -> str:
    return f"{change.study}/{change.member.cell.name}"


def _chosen(found: Sequence[CellChange], asked: Mapping[str, str]) -> CellChange:
    """The cell that an address names, in the named study if it stands there; else the first."""
    named = [one for one in found if one.member.cell.name == asked.get(CELL)] or found
    return next((one for one in named if one.study == asked.get(STUDY)), named[0])


def _not_measured(name: str, found: Sequence[CellChange]) -> str:
    """What is to be done about a cell that is declared and not measured; "" for any other name."""
    if any(one.member.cell.name == name for one in found):
        return ""
    for study in STUDIES.values():
        for member in study.members:
            if member.cell.name == name:
                return (
                    f"{study.name}: {member.label} is not measured. Run `vlm4vla study run "
                    f"{study.name} --cells {name} --data CACHE`, or, if it ran before, `vlm4vla "
                    f"study measure --cells {name}`."
                )
    return ""


def _said(change: CellChange) -> str:
    at = change.at(PROJECTOR)
    alike = "" if at is None or at.cka is None else f"; CKA with its start there: {at.cka:.2f}"
    return (
        f'<p class="ea">{html.escape(change.sentence())}</p>'
        f'<p class="ea-more">{html.escape(change.label)}{alike}.</p>'
    )


def _below(change: CellChange) -> str:
    """What stands under the cell's plot: its n, its command, its numbers and its episodes."""
    counts = [row.n for one in change.layers for row in (one.after, one.before) if row]
    counted = f"n = {max(counts, default=0):,} answers, before and after about the same pictures."
    name = f"before-after-{change.member.cell.name}-{change.target.name}.csv"
    return (
        f"<p>{counted} Made by <code>{html.escape(change.command)}</code></p>"
        f'<p class="ba-links">{csv_link(name, to_csv([change]))} '
        f'<a href="{html.escape(href_of(change))}">Its episodes</a></p>'
    )


def _listed(found: Sequence[CellChange]) -> str:
    """Every cell as a link with its numbers, for those who cannot press a point."""
    items = "".join(
        f'<li><a href="{html.escape(href_of(one))}"><b>{html.escape(one.label)}</b> '
        f"{_ends(one)}</a></li>"
        for one in found
    )
    name = f"before-after-{PROJECTOR}-{found[0].target.name}.csv"
    return (
        f"<details><summary>The cells as a list</summary><ul>{items}</ul></details>"
        f'<p class="ba-links">{csv_link(name, to_csv(found, PROJECTOR), "These as CSV")}</p>'
    )


def _ends(change: CellChange) -> str:
    at = change.at(PROJECTOR)
    if at is None or at.after is None:
        return "no probe there"
    after = with_unit(at.after.score, change.target.metric)
    if at.before is None:
        return f"{after} after"
    return f"{with_unit(at.before.score, change.target.metric)} before, {after} after"
