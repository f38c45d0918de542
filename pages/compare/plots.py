"""The dumbbell plot of two sides as a plotly figure that fits light and dark."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pages.whiskers import whiskers
from vlm4vla.eval.compare import ALL, Comparison

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

A_COLOUR: Final = "#0072b2"
B_COLOUR: Final = "#d55e00"
"""Okabe-Ito blue and vermilion; beside them stand different marks."""

_GREY: Final = "#8a919c"
_GRID: Final = "rgba(128, 128, 128, 0.3)"
_TEXT: Final = "#7a828e"
"""Readable on a light page and on a dark one."""

_APART: Final = 0.17
"""Of the height of a row: both marks of equal rates, and both intervals, are seen."""

_LEGEND: Final = 36
"""Characters of a line of the legend, which plotly would cut off on a telephone."""


def dumbbell(rows: Sequence[Comparison], a: str, b: str) -> "Figure":
    """Success rates of two sides by task, and beside them the paired difference.

    Args:
        rows: of `vlm4vla.eval.compare.compare`.
        a: what the first side is called.
        b: what the second side is called.
    """
    from plotly.subplots import make_subplots  # half a second

    places = range(len(rows))[::-1]
    figure = make_subplots(
        cols=2, shared_yaxes=True, column_widths=[0.58, 0.42], horizontal_spacing=0.05
    )
    for place, row in zip(places, rows, strict=True):
        figure.add_scatter(
            x=[100 * row.a.rate, 100 * row.b.rate],
            y=[place + _APART, place - _APART],
            mode="lines",
            line={"color": _GREY, "width": 2},
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=1,
        )
    for name, colour, symbol, above, rates in (
        (f"A: {a}", A_COLOUR, "circle", _APART, [row.a for row in rows]),
        (f"B: {b}", B_COLOUR, "diamond-open", -_APART, [row.b for row in rows]),
    ):
        figure.add_scatter(
            x=[100 * rate.rate for rate in rates],
            y=[place + above for place in places],
            mode="markers",
            name="<br>".join(textwrap.wrap(name, _LEGEND)),
            marker={
                "color": colour,
                "size": 10,
                "symbol": symbol,
                "line": {"width": 2, "color": colour},
            },
            error_x=whiskers(
                ((r.rate, r.low, r.high) for r in rates), 100, thickness=2, width=5, color=colour
            ),
            cliponaxis=False,
            customdata=[[r.successes, r.n, 100 * r.low, 100 * r.high] for r in rates],
            hovertemplate="%{customdata[0]} of %{customdata[1]} "
            "(95 % %{customdata[2]:.1f} to %{customdata[3]:.1f})<extra>" + name[0] + "</extra>",
            row=1,
            col=1,
        )
    for told, colour in ((True, A_COLOUR), (False, _GREY)):
        some = [
            (place, row)
            for place, row in zip(places, rows, strict=True)
            if (row.paired.low > 0 or row.paired.high < 0) == told
        ]
        figure.add_scatter(
            x=[100 * row.paired.difference for _, row in some],
            y=[place for place, _ in some],
            mode="markers",
            name=f"A minus B: interval {'without' if told else 'with'} 0",
            marker={"color": colour, "size": 10, "symbol": "square" if told else "square-open"},
            error_x=whiskers(
                ((r.paired.difference, r.paired.low, r.paired.high) for _, r in some),
                100,
                thickness=3,
                width=7,
                color=colour,
            ),
            customdata=[[100 * r.paired.low, 100 * r.paired.high, r.adjusted] for _, r in some],
            hovertemplate="%{x:+.1f} points (95 % %{customdata[0]:+.1f} to "
            "%{customdata[1]:+.1f}), p = %{customdata[2]:.2g}<extra></extra>",
            showlegend=bool(some),
            row=1,
            col=2,
        )
    figure.add_vline(x=0, line={"color": _GREY, "width": 1, "dash": "dot"}, row=1, col=2)
    # One below the other, or only the browser would know how much of the height they take.
    lines = sum(t.name.count("<br>") + 1 for t in figure.data if t.showlegend is not False)
    top = 20 + 20 * lines
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "family": "system-ui, sans-serif", "size": 13},
        height=top + 56 + 42 * len(rows),
        margin={"l": 84, "r": 16, "t": top, "b": 56},
        legend={"yref": "container", "y": 1, "yanchor": "top", "x": 0},
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, title={"font": {"size": 13}})
    figure.update_xaxes(title_text="success, %", range=[-3, 103], row=1, col=1)
    figure.update_xaxes(title_text="A minus B, points", row=1, col=2)
    figure.update_yaxes(
        gridcolor=_GRID,
        zeroline=False,
        tickvals=list(places),
        ticktext=[_told(row) for row in rows],
        range=[-0.6, len(rows) - 0.4],
    )
    return figure


def _told(row: Comparison) -> str:
    task = "all tasks" if row.task == ALL else row.task
    return f"{task}<br><span style='font-size:11px'>n = {row.a.n}</span>"
