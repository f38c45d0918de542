"""Curves, skipped parts and the paper's numbers as plotly figures that fit light and dark."""

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from pages.ablations.view import Mark, rate_text
from pages.whiskers import whiskers
from vlm4vla.ablation.curves import Axis
from vlm4vla.studies.paper_tables import Measure, Point, Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BLUE: Final = "#0072b2"
_GREY: Final = "rgba(128, 128, 128, 0.35)"
_SYMBOLS: Final = {"vision": "circle", "language": "square", "image": "diamond"}
"""Markers by the part of the network."""

_CONFIDENCES: Final = {
    "table": ("diamond-open", "#1a80c4"),
    "read-off-chart": ("square-open", "#d55e00"),
    "secondary": ("triangle-up-open", "#009e73"),
}
"""Symbol and colour of a number by how it came from the paper; `MARKS` has the same shapes.

The colours stand out at least 3 to 1 on a light page and on a dark one.
"""

_LABEL: Final = 28
"""Characters of a row's name on a line: beside it there must be room on a telephone."""

_HEAD: Final = 42
"""Characters of a title on a line of a telephone."""

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


def paper_figure(
    measure: Measure, points: Sequence[Point], extent: tuple[float, float]
) -> "Figure":
    """The paper's numbers on one measure, a line a model or setting, with their source on hover.

    Args:
        measure: names the axis.
        points: the numbers; those of several with a bar from the lowest to the highest.
        extent: what the axis reaches over, so that charts of one unit can be compared.
    """
    import plotly.graph_objects as go  # half a second

    low, high = extent
    names = _names(list(dict.fromkeys(one.row for one in points)))
    # A folded name takes more room.
    lines = [1 + 0.6 * text.count("<br>") for _, text in names]
    middles = [sum(lines[:place]) + tall / 2 for place, tall in enumerate(lines)]
    places = dict(zip((row for row, _ in names), middles, strict=True))
    figure = go.Figure()
    for confidence, (symbol, colour) in _CONFIDENCES.items():
        if some := [one for one in points if one.entry.confidence == confidence]:
            figure.add_scatter(
                x=[one.entry.value for one in some],
                # Two numbers of a row stand below each other.
                y=[places[one.row] + 0.3 * _before(points, one) for one in some],
                error_x=_ends(some, colour),
                mode="markers",
                marker={"size": 11, "symbol": symbol, "color": colour, "line": {"width": 2}},
                customdata=[[_about(one)] for one in some],
                hovertemplate="%{customdata[0]}<extra></extra>",
            )
    # Charts side by side begin at one height, whatever their titles' length.
    height = 130 + 24 * sum(lines)
    _dress(figure, round(height))
    figure.update_layout(
        title={
            "text": "<br>".join([f"<b>{measure.benchmark}</b>", *wrap(measure.words, _HEAD)]),
            "x": 0,
            "xanchor": "left",
            "y": 1 - 16 / height,
            "yanchor": "top",
            "pad": {"l": 8},
            "font": {"size": 13},
        },
        font_size=12,
        margin={"l": 10, "r": 16, "t": 72, "b": 46},
        # A finger that is drawn across scrolls the page.
        dragmode=False,
    )
    beyond = 0.06 * (high - low)
    figure.update_xaxes(
        title=measure.unit,
        range=[low - beyond, high + beyond],
        gridcolor=_GREY,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_yaxes(
        fixedrange=True,
        tickvals=middles,
        ticktext=[text for _, text in names],
        range=[sum(lines), 0],
        gridcolor=_GREY,
        zeroline=False,
        automargin=True,
        ticklabelstandoff=6,
    )
    return figure


def _ends(points: Sequence[Point], colour: str) -> dict[str, Any] | None:
    """From the lowest to the highest; nothing for numbers alone, whose bars would be dots."""
    known = [
        (one.entry.value, one.low, one.high)
        if one.low is not None and one.high is not None
        else None
        for one in points
    ]
    return whiskers(known, color=colour, thickness=1.5, width=4) if any(known) else None


def _names(rows: Sequence[Row]) -> list[tuple[Row | None, str]]:
    """What stands at the lines of a chart: what tells rows apart, under a head where both do."""
    models = dict.fromkeys(row.model for row in rows)
    if len(models) == len(rows):
        return [(row, row.model) for row in rows]
    found: list[tuple[Row | None, str]] = []
    for model in models:
        found += [(None, f"<b>{model}</b>")] if len(models) > 1 else []
        found += [(row, _folded(row.setting)) for row in rows if row.model == model]
    return found


def _folded(setting: str) -> str:
    return "<br>".join(
        line for part in setting.split("; ") for line in wrap(part, _LABEL, break_on_hyphens=False)
    )


def _before(points: Sequence[Point], point: Point) -> int:
    """How many numbers of the same row come before one."""
    return [one for one in points if one.row == point.row].index(point)


def _about(point: Point) -> str:
    entry, row = point.entry, point.row
    ends = "" if point.low is None else f", median of {point.low} to {point.high}"
    return (
        f"<b>{row.model}</b>, {row.size_b} B<br>{'<br>'.join(wrap(row.setting, _HEAD))}<br>"
        f"{entry.text}{ends}<br>{entry.source}"
    )


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
