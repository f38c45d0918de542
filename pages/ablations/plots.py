"""Curves and skipped parts as plotly figures that fit light and dark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pages.ablations.view import Mark, rate_text
from pages.whiskers import whiskers
from vlm4vla.ablation.curves import Axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BLUE: Final = "#0072b2"
_GREY: Final = "rgba(128, 128, 128, 0.35)"
_SYMBOLS: Final = {"vision": "circle", "language": "square", "image": "diamond"}
"""Markers by the part of the network."""

_TEXT: Final = "#7a828e"
"""Readable on a light page and on a dark one."""


def curve_figure(axis: Axis, marks: Sequence[Mark]) -> "Figure":
    """Success by strength, with its 95 % intervals and n on hover."""
    import plotly.graph_objects as go  # half a second

    figure = go.Figure(
        go.Scatter(
            x=[one.value for one in marks],
            y=[100 * one.cell.rate.rate for one in marks],
            error_y=_intervals(marks),
            mode="lines+markers",
            marker={"size": 11},
            line={"color": _BLUE},
            customdata=_told(marks),
            hovertemplate="%{x}: %{customdata[0]}<extra></extra>",
        )
    )
    _dress(figure, 300)
    figure.update_xaxes(title=axis.label, gridcolor=_GREY, zeroline=False)
    figure.update_yaxes(title="success, %", range=[-2, 102], gridcolor=_GREY, zeroline=False)
    return figure


def parts_figure(marks: Sequence[Mark]) -> "Figure":
    """Success without each part, from the picture's end of the network down.

    Args:
        marks: the intact point, drawn as a line, and one for each part.
    """
    import plotly.graph_objects as go  # half a second

    intact, *parts = marks
    rate = intact.cell.rate
    figure = go.Figure(
        go.Scatter(
            x=[100 * one.cell.rate.rate for one in parts],
            y=[one.text for one in parts],
            error_x=_intervals(parts),
            mode="markers",
            marker={
                "size": 12,
                "color": _BLUE,
                "symbol": [_SYMBOLS.get(one.text.split()[0], "circle") for one in parts],
            },
            customdata=_told(parts),
            hovertemplate="%{y}: %{customdata[0]}<extra></extra>",
        )
    )
    _dress(figure, 90 + 34 * len(parts))
    if rate.n:
        figure.add_vrect(
            100 * rate.low, 100 * rate.high, fillcolor=_GREY, line_width=0, layer="below"
        )
        figure.add_vline(
            100 * rate.rate,
            line={"color": _TEXT, "dash": "dash"},
            annotation={"text": "nothing skipped", "xanchor": "right"},
        )
    figure.update_xaxes(
        title="success with it skipped, %", range=[-2, 102], gridcolor=_GREY, zeroline=False
    )
    figure.update_yaxes(autorange="reversed", gridcolor=_GREY, automargin=True)
    return figure


def _intervals(marks: Sequence[Mark]) -> dict[str, Any]:
    rates = [one.cell.rate for one in marks]
    return whiskers(((rate.rate, rate.low, rate.high) for rate in rates), 100)


def _told(marks: Sequence[Mark]) -> list[list[str]]:
    """What a point says on hover, and where its episodes are shown."""
    return [[rate_text(one.cell.rate), one.href] for one in marks]


def _dress(figure: "Figure", height: int) -> None:
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "family": "system-ui, sans-serif"},
        height=height,
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        showlegend=False,
    )
