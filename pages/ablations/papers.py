"""The paper's own numbers on the Ablations page: a table and its charts, one of nine at a time."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.events import Dependency

from pages.ablations.plots import paper_figure
from pages.csv_link import csv_link
from vlm4vla.studies.paper_tables import Column, Row, Table, legend, tables, to_csv

_ALL: Final = "all"
_EMPTY: Final = '<td class="pp-none">–</td>'


def section(opened: Dependency) -> None:
    """Lays the section out.

    Args:
        opened: the event after which it is filled.
    """
    known = tables()
    with gr.Column(elem_id="paper"):
        gr.Markdown("## The paper's own numbers")
        with gr.Row():
            which = gr.Dropdown(
                [(one.title, one.name) for one in known.values()],
                label="Table of the paper",
                filterable=False,
                elem_id="paper-table",
                scale=1,
                min_width=300,
            )
            benchmark = gr.Radio(
                [_ALL], label="Benchmark", elem_id="paper-benchmark", scale=1, min_width=300
            )
        marks = gr.HTML("", elem_id="paper-legend")
        with gr.Row(elem_id="paper-charts"):
            most = max(len(one.measures) for one in known.values())
            plots = [gr.Plot(visible=False, show_label=False) for _ in range(most)]
        shown = gr.HTML(
            "<p>Looking …</p>",
            js_on_load=(Path(__file__).parent / "papers.js").read_text(),
            elem_id="paper-shown",
        )

    def first_sight(request: gr.Request) -> list[Any]:
        return answer({name: str(value) for name, value in request.query_params.items()}, most)

    def choose(name: str, where: str | None) -> list[Any]:
        return answer({"paper": name, "benchmark": where or ""}, most)

    outputs = [which, benchmark, marks, *plots, shown]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    opened.then(first_sight, outputs=outputs, **quiet)
    gr.on(
        [which.input, benchmark.input],
        choose,
        [which, benchmark],
        outputs,
        trigger_mode="always_last",
        **quiet,
    )


def answer(asked: Mapping[str, str], most: int) -> list[Any]:
    """Updates of the section's parts for an address.

    Args:
        asked: parameters by name: `paper`, `benchmark`; what is missing or unknown is chosen.
        most: how many charts there is room for.
    """
    known = tables()
    name = asked.get("paper", "")
    table = known.get(name) or next(iter(known.values()))
    places = table.benchmarks
    where = asked.get("benchmark", "")
    where = where if where in places and len(places) > 1 else _ALL
    kept = {"paper": name if name in known else "", "benchmark": "" if where == _ALL else where}
    part = table if where == _ALL else table.of(where)
    charts = [
        gr.Plot(paper_figure(one, part.points(one), part.extent(one)), visible=True)
        for one in part.measures
    ]
    address = " ".join(f'data-{k}="{html.escape(v, quote=True)}"' for k, v in kept.items())
    told = legend(part)
    if any(one.statistic for one in part.columns):
        told.append(
            "├─┤ from the lowest to the highest of what the figure shows, marked at the median"
        )
    marks = "".join(f"<span>{html.escape(one)}</span> " for one in told)
    return [
        gr.Dropdown(value=table.name),
        gr.Radio([_ALL, *places], value=where, visible=len(places) > 1),
        f'<p class="ab-legend pp-legend">{marks}</p>',
        *charts,
        *[gr.Plot(visible=False)] * (most - len(charts)),
        f"<div {address}>{table_html(part)}</div>",
    ]


def table_html(table: Table) -> str:
    """A table of the paper, its numbers as a file, and the command that prints it.

    Args:
        table: which, or what it holds of one benchmark.
    """
    heads, below = "", ""
    folded = any(column.statistic for column in table.columns)
    deep = ' rowspan="2"' if folded else ""
    for measure in table.measures:
        columns = table.columns_of(measure)
        text = f"<b>{html.escape(measure.benchmark)}</b> {html.escape(measure.words)}"
        if folded:
            heads += f'<th scope="colgroup" colspan="{len(columns)}">{text}</th>'
            below += "".join(
                f'<th scope="col">{one.statistic or "the number"}</th>' for one in columns
            )
        else:
            heads += f'<th scope="col">{text}</th>'
    heads = (
        f'<tr><th scope="col"{deep}>model, size and setting</th>{heads}'
        f'<th scope="col"{deep}>source</th></tr>'
    )
    if folded:
        heads += f"<tr>{below}</tr>"
    body = "".join(_row(table, row) for row in table.rows)
    title = html.escape(table.title)
    note = f'<p class="ab-legend">{html.escape(table.note)}</p>' if table.note else ""
    name = f"paper-{table.name}.csv"
    return (
        f'{note}<div class="ab-scroll" role="region" aria-label="{title}" tabindex="0">'
        f'<table class="pp-table"><caption>{title}</caption><thead>{heads}</thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"{csv_link(name, to_csv(table), 'These numbers as CSV', css='ab-csv')}"
        f"<p>As text: <code>vlm4vla study paper {table.name}</code></p>"
    )


def _row(table: Table, row: Row) -> str:
    cells = "".join(_cell(table, row, column) for column in table.columns)
    sources = html.escape(table.sources(row, table.columns))
    return (
        f'<tr><th scope="row"><b>{html.escape(row.model)}</b>, {row.size_b}&nbsp;B'
        f"<span>{html.escape(row.setting)}</span></th>{cells}<td>{sources}</td></tr>"
    )


def _cell(table: Table, row: Row, column: Column) -> str:
    entry = table.entries.get((row, column))
    if entry is None:
        return _EMPTY
    title = html.escape(entry.source, quote=True)
    return f'<td class="pp-number" title="{title}">{html.escape(entry.text)}</td>'
