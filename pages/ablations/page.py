"""The Ablations page: what is left of a policy's success without its picture or its sentence."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import gradio as gr

from pages.ablations import papers, view
from pages.ablations.contents import contents_html
from pages.ablations.plots import curve_figure, parts_figure
from pages.compare.duet import live_address
from pages.services import Services
from vlm4vla.ablation.curves import AXES, curves
from vlm4vla.ablation.matrix import (
    PICTURE_ROWS,
    SENTENCE_COLUMNS,
    SPLIT,
    STUDY,
    Cell,
    matrix,
    telling,
)
from vlm4vla.ablation.parts import PARTS, part_of, skipped
from vlm4vla.ablation.registry import PERTURBATIONS, perturbation
from vlm4vla.ablation.summary import summary
from vlm4vla.ablation.words import words_of
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.rates import facets
from vlm4vla.episodes.rows import Row
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.suites.tabletop.scene import TASKS

_ALL: Final = "all"

_NOTHING: Final = "nothing"
"""What the address calls the intact point among the skipped parts."""

_INTRODUCTION: Final = """\
# Ablations

The same policy in the same scenes, with its picture or its sentence taken away. Press a cell to see
its episodes, or run its condition live beside the intact policy.
"""
_CELLS: Final = [
    view.key_of(i, j) for i in range(len(PICTURE_ROWS)) for j in range(len(SENTENCE_COLUMNS))
]


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out; it only reads the table of episodes.

    Args:
        page: the `gr.Blocks` of this page.
        services: what it is built from.
    """
    table = services.archive.table
    gr.Markdown(_INTRODUCTION)
    contents = gr.HTML(
        contents_html({}),
        js_on_load=(Path(__file__).parent / "contents.js").read_text(),
        elem_id="ablation-contents",
    )
    said = gr.HTML("", elem_id="ablation-said")
    with gr.Row():
        policy = gr.Dropdown([], label="Policy", elem_id="ablation-policy", scale=1, min_width=300)
        task = gr.Radio(
            [_ALL, *TASKS],
            value=_ALL,
            label="Task",
            elem_id="ablation-task",
            scale=3,
            min_width=320,
        )
    shown = gr.HTML(
        "<p>Looking …</p>",
        js_on_load=(Path(__file__).parent / "matrix.js").read_text(),
        elem_id="ablation",
    )
    cell, point = gr.State(""), gr.State("")
    listed = gr.HTML("", elem_id="ablation-cell")
    gr.Markdown("## How much of it can be taken", elem_id="curves")
    plots = {}
    with gr.Row(elem_id="ablation-curves"):
        for name in AXES:
            with gr.Column(elem_id=f"curve-{name}"):
                meaning = PERTURBATIONS.get(name).meaning
                gr.Markdown(f"### {meaning[0].upper()}{meaning[1:]}")
                plots[name] = (gr.Plot(visible=False, show_label=False), gr.HTML(""))
    with gr.Column(elem_id="parts"):
        gr.Markdown("## What each part is worth")
        parts = (
            gr.Plot(visible=False, show_label=False),
            gr.HTML("", js_on_load=(Path(__file__).parent / "points.js").read_text()),
        )
    drawn = [part for pair in (*plots.values(), parts) for part in pair]
    gr.Markdown("## The paper's studies", elem_id="paper-studies")
    studies = gr.HTML("<p>Looking …</p>", elem_id="studies")

    def first_sight(request: gr.Request) -> list[Any]:
        asked = {name: str(value) for name, value in request.query_params.items()}
        known = _policies(table)
        chosen = asked.get("policy", "")
        if chosen not in known.values():
            chosen = next(iter(known.values()), "")
        which = asked.get("task", _ALL)
        which = which if which in TASKS else _ALL
        key = asked.get("cell", "")
        key = key if key in _CELLS else ""
        menu = gr.Dropdown(list(known.items()), value=chosen or None)
        words = asked.get("point", "")
        return [menu, which, key, words, *show(chosen, which, key, words)]

    def show(digest: str | None, which: str, key: str, words: str) -> list[str]:
        tasks = TASKS if which == _ALL else (which,)
        if not digest:
            return ["", _nothing(), ""]
        cells = matrix(table, digest, tasks)
        name = _name(table, digest)
        live = _live(services, digest, name, cells[0][0])
        query = _query(digest, which, cell=key, point=words)
        picture = view.matrix_html(cells, key, live)
        text = summary(cells) or "Only the intact policy was measured so far."
        listing = ""
        if key:
            i, j = map(int, key.split("-"))
            listing = view.episodes_html(cells[i][j], name, tasks, live)
        return [
            f'<p class="ab-said" role="status">{html.escape(text)}</p>',
            f'<div data-query="{html.escape(query, quote=True)}">{picture}</div>',
            listing,
        ]

    def draw(digest: str | None, which: str, words: str) -> list[Any]:
        tasks = TASKS if which == _ALL else (which,)
        found = curves(table, digest, tasks) if digest else {}
        name = _name(table, digest) if digest else "CHECKPOINT"

        def place(text: str) -> str:
            return f"ablations?{_query(digest or '', which, point=text)}#point"

        def texts(marks: list[view.Mark], column: str, file: str) -> str:
            cells = [one.cell for one in marks]
            intact = next((one for one in cells if not one.condition.perturbations), cells[0])
            live = _live(services, digest or "", name, intact)
            return view.points_html(marks, place(words), column, file, live)

        drawn: list[Any] = []
        for kind, axis in AXES.items():
            if points := found.get(kind):
                marks = [
                    view.Mark(
                        f"{axis.label.partition(',')[0]} {point.value:g}",
                        point.cell,
                        place(words_of(perturbation(kind, {axis.number: point.value}))),
                        point.value,
                    )
                    for point in points
                ]
                drawn.append(gr.Plot(curve_figure(axis, marks), visible=True))
                drawn.append(texts(marks, axis.label, kind))
            else:
                drawn += [gr.Plot(visible=False), _not_measured(name, kind)]
        cells = skipped(table, digest, tasks) if digest else []
        if not cells:
            return [*drawn, gr.Plot(visible=False), _nothing_skipped(name)]
        marks = [view.Mark("nothing skipped", cells[0], place(_NOTHING))]
        for one in cells[1:]:
            (change,) = one.condition.perturbations
            marks.append(view.Mark(part_of(change), one, place(words_of(change))))
        figure = gr.Plot(parts_figure(marks), visible=True)
        return [*drawn, figure, texts(marks, "skipped", "parts")]

    def studied(request: gr.Request) -> list[str]:
        # scipy and the studies' declarations take half a second.
        from pages.ablations.studies import CELL, studies_html
        from vlm4vla.studies.measures import NAMED
        from vlm4vla.studies.predictor import predictions
        from vlm4vla.studies.registry import STUDIES
        from vlm4vla.studies.report import reports

        found = reports(table, list(STUDIES.values()))
        told = predictions(found, NAMED)
        listed = contents_html({one.study.name: one.study.question for one in found})
        return [listed, studies_html(found, told, str(request.query_params.get(CELL, "")))]

    def press(digest: str | None, which: str, words: str, event: gr.SelectData) -> list[str]:
        key = str(event.index)
        key = key if key in _CELLS else ""
        return [key, *show(digest, which, key, words)]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    texts = [said, shown, listed]
    # One after the other, since together they would keep what is seen first waiting.
    opened = page.load(first_sight, outputs=[policy, task, cell, point, *texts], **quiet)
    plotted = opened.then(draw, [policy, task, point], drawn, **quiet)
    plotted.then(studied, outputs=[contents, studies], **quiet)
    chosen = [policy, task, cell, point]
    # What is chosen while an answer is on its way counts, and not what was chosen before it.
    last: dict[str, Any] = {"trigger_mode": "always_last", **quiet}
    matrix_shown = gr.on([policy.input, task.input], show, chosen, texts, **last)
    matrix_shown.then(draw, [policy, task, point], drawn, **quiet)
    # A deferred press would come with the first one's cell.
    shown.select(press, [policy, task, point], [cell, *texts], trigger_mode="multiple", **quiet)
    papers.section(plotted)


def _policies(table: EpisodeTable) -> Mapping[str, str]:
    """Digests of the policies by name, those with most perturbed episodes first."""
    perturbed = Filter(agent_kind="policy", split=SPLIT, kind=STUDY.kind, name=STUDY.name)
    evaluation = Filter(agent_kind="policy", split=SPLIT, kind="evaluation")
    measured, evaluated = (facets(table, f, ["agent"])["agent"] for f in (perturbed, evaluation))
    digests = sorted(measured, key=lambda one: -measured[one])
    digests += [one for one in evaluated if one not in measured]
    return {f"{_name(table, one)} ({one[:6]})": one for one in digests}


def _name(table: EpisodeTable, digest: str) -> str:
    rows = table.query(Filter(agent=digest), limit=1)
    return (rows[0].agent.name if rows else "") or digest


def _query(digest: str, which: str, **chosen: str) -> str:
    """The address's parameters; what is not chosen is left out."""
    known = {name: value for name, value in chosen.items() if value}
    return urlencode({"policy": digest, "task": which, **known})


def _live(services: Services, digest: str, name: str, intact: Cell) -> view.Live:
    """Where conditions run live beside the intact policy; nowhere if its checkpoint is not here."""
    here = name in services.catalogue.names()

    def address(cell: Cell, row: Row | None) -> str:
        scene = row or telling(cell, intact)
        changes = cell.condition.perturbations
        if not here or scene is None or any(one.name in PARTS for one in changes):
            return ""
        return live_address(name, digest, scene.spec, changes)

    return address


def _not_measured(checkpoint: str, name: str) -> str:
    return (
        "<p>Not measured. This adds a point: <code>vlm4vla ablate --checkpoint "
        f"{html.escape(checkpoint)} --perturb {name} {AXES[name].number}=VALUE</code></p>"
    )


def _nothing_skipped(checkpoint: str) -> str:
    return (
        "<p>No part was skipped yet. This skips one: <code>vlm4vla ablate --checkpoint "
        f"{html.escape(checkpoint)} --perturb skip-vision-layer layer=0</code></p>"
    )


def _nothing() -> str:
    line = html.escape(view.command("CHECKPOINT", TASKS))
    return (
        '<div id="ablation-empty"><p>No policy has been measured here yet. This fills the '
        f'matrix:</p><pre tabindex="0"><code>{line}</code></pre></div>'
    )
