"""Curves as plotly figures that fit light and dark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pages.whiskers import whiskers
from vlm4vla.ablation.curves import Axis, Point

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BLUE: Final = "#0072b2"
_GREY: Final = "rgba(128, 128, 128, 0.35)"
_TEXT: Final = "#7a828e"
"""Readable on a light page and on a dark one."""


def curve_figure(axis: Axis, points: Sequence[Point]) -> "Figure":
    """Success by strength, with its 95 % intervals and n on hover."""
    import plotly.graph_objects as go  # half a second

    rates = [point.cell.rate for point in points]
    figure = go.Figure(
        go.Scatter(
            x=[point.value for point in points],
            y=[100 * rate.rate for rate in rates],
            error_y=whiskers(((rate.rate, rate.low, rate.high) for rate in rates), 100),
            mode="lines+markers",
            marker={"size": 9},
            line={"color": _BLUE},
            customdata=[[rate.successes, rate.n] for rate in rates],
            hovertemplate="%{x}: %{customdata[0]} of %{customdata[1]}<extra></extra>",
        )
    )
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "family": "system-ui, sans-serif"},
        height=300,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        showlegend=False,
    )
    figure.update_xaxes(title=axis.label, gridcolor=_GREY, zeroline=False)
    figure.update_yaxes(title="success, %", range=[-2, 102], gridcolor=_GREY, zeroline=False)
    return figure
