"""The dumbbell plot of two sides as a plotly figure that fits light and dark."""

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


def dumbbell(rows: Sequence[Comparison], a: str, b: str) -> "Figure":
    """Success rates of two sides by task, and beside them the paired difference.

    Args:
        rows: of `vlm4vla.eval.compare.compare`.
        a: what the first side is called.
        b: what the second side is called.
    """
    from plotly.subplots import make_subplots  # half a second

    tasks = ["all tasks" if row.task == ALL else row.task for row in rows]
    figure = make_subplots(
        cols=2, shared_yaxes=True, column_widths=[0.58, 0.42], horizontal_spacing=0.05
    )
    for task, row in zip(tasks, rows, strict=True):
        figure.add_scatter(
            x=[100 * row.a.rate, 100 * row.b.rate],
            y=[task, task],
            mode="lines",
            line={"color": _GREY, "width": 4},
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=1,
        )
    for name, colour, symbol, rates in (
        (f"A: {a}", A_COLOUR, "circle", [row.a for row in rows]),
        (f"B: {b}", B_COLOUR, "diamond-open", [row.b for row in rows]),
    ):
        figure.add_scatter(
            x=[100 * rate.rate for rate in rates],
            y=tasks,
            mode="markers",
            name=name,
            marker={
                "color": colour,
                "size": 13,
                "symbol": symbol,
                "line": {"width": 3, "color": colour},
            },
            customdata=[[r.successes, r.n, 100 * r.low, 100 * r.high] for r in rates],
            hovertemplate="%{customdata[0]} of %{customdata[1]} "
            "(95 % %{customdata[2]:.1f} to %{customdata[3]:.1f})<extra>" + name[0] + "</extra>",
            row=1,
            col=1,
        )
    for told, colour in ((True, A_COLOUR), (False, _GREY)):
        some = [
            (task, row)
            for task, row in zip(tasks, rows, strict=True)
            if (row.paired.low > 0 or row.paired.high < 0) == told
        ]
        figure.add_scatter(
            x=[100 * row.paired.difference for _, row in some],
            y=[task for task, _ in some],
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
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "family": "system-ui, sans-serif", "size": 13},
        height=158 + 38 * len(rows),
        margin={"l": 84, "r": 16, "t": 66, "b": 56},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, title={"font": {"size": 13}})
    figure.update_xaxes(title_text="success, %", range=[-3, 103], row=1, col=1)
    figure.update_xaxes(title_text="A minus B, points", row=1, col=2)
    # In the order of the tasks from top to bottom, all of them together last.
    figure.update_yaxes(
        gridcolor=_GRID, zeroline=False, categoryorder="array", categoryarray=tasks[::-1]
    )
    return figure
