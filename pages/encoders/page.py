"""The Encoders page: what every layer knows of the scene, and how alike layers are."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr

from pages.csv_link import csv_link
from pages.encoders import before_after, distance, drag, loss, shares, trust
from pages.encoders.plots import curves, heat
from pages.services import Services
from vlm4vla.errors import UserError
from vlm4vla.representations.pictures import TARGETS
from vlm4vla.representations.results import SHIPPED, CkaRow, ProbeRow, read_cka, read_probes
from vlm4vla.representations.summary import best, encoders, line, sentence, to_csv

_FOLDER: Final = Path(__file__).parent

STYLE: Final = _FOLDER / "style.css"

TARGET: Final = "named"
PROBES: Final = ("linear", "attentive")
MOST: Final = 6
"""Encoders drawn at first; all can be chosen."""

_JUMPS: Final = {
    "encoder-answer": "Probes",
    "drag": "Move an object",
    "cka": "CKA",
    "shares": "Attention and share",
    "trust": "Trust",
    "trained": "Before and after",
    "loss": "Loss and success",
    "distance": "Rollouts",
}
"""Sections by their anchors."""

_EMPTY: Final = (
    "No encoder has been probed yet. Run `vlm4vla represent --checkpoint qwen3vl-tiny vlm-init "
    "--out assets/representations`."
)

_METHOD: Final = """\
*Vision 0* is what the first block of the vision tower is given; *picture* and *query* are the
language model's layers at the image tokens and at the action query, the last of which, after the
final norm, is what the action head reads. A VLM that is no policy yet has a query of zeros
there, as the paper's training begins with; fresh weights have a random one.

Pictures are those of the policy's camera in scenes that no model learned from: each scene as it
starts, and a moment of each stored episode in it. A **linear** probe is ridge regression in closed
form on all tokens of a layer (on the one token of the action query); an **attentive** probe has one
learned query a question, which looks at the tokens. Both are fitted on 60 % of the scenes, their
strength is chosen on 15 %, and what is drawn is the rest; intervals are bootstraps over scenes. The
vision tower never sees the sentence: what it tells of the named object is a guess, from where the
gripper is already going. *Fresh weights* is the same architecture that learned nothing; where an
encoder is no better, its layer tells no more than its picture does. CKA is linear, from debiased
HSIC, on the starts of scenes: 1 for layers that a rotation turns into each other, 0 for unrelated
ones.
"""


def build(page: gr.Blocks, services: Services, folder: Path = SHIPPED) -> None:
    """Lays the page out; it only reads what `vlm4vla represent` wrote.

    Args:
        page: the `gr.Blocks` of this page.
        services: what the pages are built from.
        folder: where the rows are.
    """
    gr.Markdown("# Encoders")
    gr.HTML(
        _jumps(),
        js_on_load=(_FOLDER / "jump.js").read_text("utf-8"),
        elem_id="encoder-jumps",
    )
    said = gr.HTML("<p>Looking …</p>", elem_id="encoder-answer")
    with gr.Column(elem_id="encoder-controls"):
        target = gr.Radio(
            [(one.meaning, one.name) for one in TARGETS], value=TARGET, label="A layer is asked"
        )
        with gr.Row():
            chosen = gr.Dropdown([], label="Encoders", multiselect=True, scale=3)
            probe = gr.Radio(PROBES, value=PROBES[0], label="Probe", scale=1)
    plot = gr.Plot(visible=False, show_label=False, elem_id="encoder-curves")
    below = gr.HTML("", elem_id="encoder-csv")
    drag.section()
    gr.Markdown("## How alike two encoders are, layer by layer", elem_id="cka")
    with gr.Row(elem_id="encoder-pair"):
        first = gr.Dropdown([], label="Up")
        second = gr.Dropdown([], label="To the right")
    map_ = gr.Plot(visible=False, show_label=False, elem_id="encoder-cka")
    cells = gr.HTML("", elem_id="encoder-cka-csv")
    gr.Markdown(_METHOD)
    address = gr.HTML(
        None,
        html_template="",
        js_on_load=(_FOLDER / "address.js").read_text("utf-8"),
        elem_id="encoder-address",
        visible="hidden",
    )
    inputs = [target, probe, chosen, first, second]
    outputs = [said, *inputs, plot, below, map_, cells, address]

    def first_sight(request: gr.Request) -> list[Any]:
        return answer(folder, {k: str(v) for k, v in request.query_params.items()})

    def choose(
        which: str, how: str, names: list[str] | None, up: str | None, right: str | None
    ) -> list[Any]:
        asked = {"target": which, "probe": how, "encoders": ",".join(names or ())}
        return answer(folder, {**asked, "up": up or "", "right": right or ""})

    private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    opened = page.load(first_sight, outputs=outputs, **private)
    gr.on(
        [target.input, probe.input, chosen.input, first.input, second.input],
        choose,
        inputs,
        outputs,
        trigger_mode="always_last",
        **private,
    )
    # They come after the sentence, which would wait a third of a second for them otherwise.
    shares.section(opened, folder)
    trust.section(opened)
    before_after.section(opened)
    loss.section(opened)
    distance.section(opened)


def _jumps() -> str:
    links = "".join(f'<a href="encoders#{anchor}">{name}</a>' for anchor, name in _JUMPS.items())
    return f'<nav aria-label="Sections of this page">{links}</nav>'


def answer(folder: Path, asked: Mapping[str, str]) -> list[Any]:
    """Updates of the page's parts for an address.

    Args:
        folder: of the rows.
        asked: parameters by name: `target`, `probe`, `encoders`, `up`, `right`; what is missing or
            unknown is chosen.
    """
    try:
        rows, pairs = read_probes(folder), read_cka(folder)
    except UserError as error:
        return _nothing(str(error))
    known = encoders(rows)
    if not known:
        return _nothing(_EMPTY)
    target = asked.get("target", "")
    target = target if target in {one.name for one in TARGETS} else TARGET
    probe = asked.get("probe", "")
    probe = probe if probe in PROBES else PROBES[0]
    wanted = asked.get("encoders", "").split(",")
    chosen = [name for name in wanted if name in known] or known[:MOST]
    some = [row for name in chosen for row in line(rows, name, target, probe)]
    up = asked.get("up", "") if asked.get("up") in known else known[0]
    right = asked.get("right", "") if asked.get("right") in known else known[min(1, len(known) - 1)]
    both = _pair(pairs, up, right)
    address = {"target": target, "probe": probe, "encoders": ",".join(chosen)}
    return [
        _said(rows, chosen, target, probe),
        gr.Radio(value=target),
        gr.Radio(value=probe),
        gr.update(choices=known, value=chosen),
        gr.Dropdown(known, value=up),
        gr.Dropdown(known, value=right),
        gr.Plot(curves(rows, chosen, target, probe), visible=True),
        _below(some, "probes.csv"),
        gr.Plot(heat(both, up, right), visible=True) if both else gr.Plot(visible=False),
        _below(both, "cka.csv") if both else "<p>These two were not compared.</p>",
        {**address, "up": up, "right": right},
    ]


def _pair(rows: Sequence[CkaRow], up: str, right: str) -> list[CkaRow]:
    found = [row for row in rows if (row.a, row.b) == (up, right)]
    if found or up == right:
        return found
    turned = [row for row in rows if (row.a, row.b) == (right, up)]
    return [
        row._replace(a=up, layer_a=row.layer_b, b=right, layer_b=row.layer_a)
        for row in sorted(turned, key=lambda row: _place(turned, row.layer_b))
    ]


def _place(rows: Sequence[CkaRow], layer: str) -> int:
    return list(dict.fromkeys(row.layer_b for row in rows)).index(layer)


def _said(rows: Sequence[ProbeRow], chosen: Sequence[str], target: str, probe: str) -> str:
    told = sentence(rows, chosen, target)
    more = best(rows, chosen, target, probe)
    return f'<p class="ea">{html.escape(told)}</p><p class="ea-more">{html.escape(more)}</p>'


def _below(rows: Sequence[ProbeRow | CkaRow], name: str) -> str:
    """What stands under a plot: its n, its command, and its numbers as a file."""
    if not rows:
        return "<p>No encoder has such rows.</p>"
    first = rows[0]
    counted = f"n = {first.n} starts of scenes"
    if isinstance(first, ProbeRow):
        counted = f"n = {first.n} answers in {first.scenes} test seeds"
    return (
        f"<p>{counted}. Made by <code>{html.escape(first.command)}</code></p>"
        f"<p>{csv_link(name, to_csv(rows))}</p>"
    )


def _nothing(message: str) -> list[Any]:
    told = f'<p class="message">{html.escape(message)}</p>'
    hidden = gr.Plot(visible=False)
    empty = gr.Dropdown([], value=None)
    return [
        told,
        gr.Radio(value=TARGET),
        gr.Radio(value=PROBES[0]),
        gr.update(choices=[], value=[]),
        empty,
        empty,
        hidden,
        "",
        hidden,
        "",
        None,
    ]
