"""The plots of the Encoders page, by plotly, on light and on dark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pages.whiskers import whiskers
from vlm4vla.representations.results import CkaRow, ProbeRow, ShareRow
from vlm4vla.representations.summary import encoders, layers, line, part_of, share_line

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_STYLES: Final = (
    ("#0072b2", "circle", "solid"),
    ("#d55e00", "diamond", "dash"),
    ("#009e73", "square", "solid"),
    ("#cc79a7", "triangle-up", "dash"),
    ("#e69f00", "cross", "solid"),
    ("#56b4e9", "x", "dash"),
    ("#b0a800", "star", "solid"),
    ("#8a60c8", "hexagon", "dash"),
    ("#a05a2c", "bowtie", "solid"),
)
"""Okabe-Ito colours and three more, each with a mark and a stroke of its own."""

_GREY: Final = "#8a919c"
_GRID: Final = "rgba(128, 128, 128, 0.3)"
_TEXT: Final = "#7a828e"
"""Readable on a light page and on a dark one."""


def curves(rows: Sequence[ProbeRow], chosen: Sequence[str], target: str, probe: str) -> "Figure":
    """A probe's metric by layer, one line an encoder, with intervals and baselines.

    Args:
        rows: all rows.
        chosen: which encoders.
        target: what is probed.
        probe: "linear" or "attentive".
    """
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    lines = {name: line(rows, name, target, probe) for name in chosen}
    some = [row for found in lines.values() for row in found]
    order, share = layers(some), 100 if some and some[0].metric != "cm" else 1
    known = list(dict.fromkeys(row.checkpoint for row in rows))
    drawn: set[tuple[float, ...]] = set()
    for name, found in lines.items():
        colour, symbol, dash = _STYLES[known.index(name) % len(_STYLES)]
        fresh = tuple(row.random for row in found)
        if found and fresh not in drawn:
            drawn.add(fresh)
            x, y, _ = _broken(found, [share * value for value in fresh])
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines+markers",
                name=f"fresh weights, {found[0].family}",
                line={"color": _GREY, "width": 1.5, "dash": "dot"},
                marker={"size": 5, "symbol": symbol + "-open", "color": _GREY},
                hovertemplate="%{x}: %{y:.2f}<extra>fresh weights</extra>",
            )
        x, y, kept = _broken(found, [share * row.value for row in found])
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 9, "symbol": symbol, "color": colour},
            error_y=whiskers(
                ((r.value, r.low, r.high) if r else None for r in kept),
                share,
                thickness=1,
                width=3,
                color=colour,
            ),
            customdata=[[share * r.low, share * r.high, r.n] if r else None for r in kept],
            hovertemplate="%{x}: %{y:.2f} (95 % %{customdata[0]:.2f} to %{customdata[1]:.2f}, "
            "n = %{customdata[2]})<extra>" + name + "</extra>",
        )
    if some:
        figure.add_hline(
            y=share * some[0].baseline,
            line={"color": _GREY, "dash": "dash", "width": 1.5},
            annotation={"text": "always the same answer", "font": {"color": _TEXT}},
            annotation_position="top left",
        )
        for place, name in enumerate(order):
            if any(row.reads and row.layer == name for row in some):
                figure.add_vline(x=place, line={"color": _TEXT, "width": 2})
                figure.add_annotation(
                    x=place,
                    y=1.02,
                    yref="paper",
                    yanchor="bottom",
                    xanchor="right",
                    text="the action head reads here",
                    showarrow=False,
                    font={"color": _TEXT},
                )
    dress(figure, 480)
    unit = "mean distance, cm (lower is better)" if share == 1 else "balanced accuracy, %"
    figure.update_yaxes(title_text=unit, rangemode="tozero" if share == 1 else "normal")
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=order,
        tickangle=-45,
        range=[-0.5, len(order) - 0.5],
    )
    figure.update_layout(legend={"orientation": "h", "y": -0.32, "yanchor": "top"})
    return figure


def _broken(
    found: Sequence[ProbeRow], values: Sequence[float]
) -> tuple[list[str | None], list[float | None], list[ProbeRow | None]]:
    """Points with a gap wherever another part of the encoder begins."""
    x: list[str | None] = []
    y: list[float | None] = []
    kept: list[ProbeRow | None] = []
    for place, (row, value) in enumerate(zip(found, values, strict=True)):
        if place and part_of(found[place - 1].layer) != part_of(row.layer):
            x.append(row.layer)
            y.append(None)
            kept.append(None)
        x.append(row.layer)
        y.append(value)
        kept.append(row)
    return x, y, kept


def heat(rows: Sequence[CkaRow], a: str, b: str) -> "Figure":
    """CKA of every layer of one encoder with every layer of another.

    Args:
        rows: of the two.
        a: whose layers go up.
        b: whose layers go to the right.
    """
    import plotly.graph_objects as go  # half a second

    up = list(dict.fromkeys(row.layer_a for row in rows))
    right = list(dict.fromkeys(row.layer_b for row in rows))
    values: Any = [[None] * len(right) for _ in up]
    for row in rows:
        values[up.index(row.layer_a)][right.index(row.layer_b)] = row.value
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=right,
            y=up,
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            colorbar={"title": {"text": "CKA"}, "thickness": 14},
            hovertemplate=f"{a} %{{y}}<br>{b} %{{x}}<br>CKA %{{z:.2f}}<extra></extra>",
        )
    )
    dress(figure, 520)
    figure.update_xaxes(title_text=b, tickangle=-45, type="category")
    figure.update_yaxes(title_text=a, type="category")
    return figure


def shares(rows: Sequence[ShareRow], shown: Sequence[str]) -> "Figure":
    """The share of maps that lies on the named object, by layer: Grad-CAM, then attention.

    Args:
        rows: all rows.
        shown: encoders that are drawn at first; the legend adds the others.
    """
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    methods = ("grad-cam", "attention")
    longest = {
        method: max((share_line(rows, name, method) for name in encoders(rows)), key=len)
        for method in methods
    }
    order = [row.layer for method in methods for row in longest[method]]
    for index, name in enumerate(encoders(rows)):
        colour, symbol, dash = style_of(index)
        kept: list[ShareRow | None] = []
        for method in methods:
            # Another method begins: no line leads there.
            kept += [None] * bool(kept) + list(share_line(rows, name, method))
        figure.add_scatter(
            x=[row.layer if row else order[0] for row in kept],
            y=[100 * row.value if row else None for row in kept],
            mode="lines+markers",
            name=name,
            visible=True if name in shown else "legendonly",
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 9, "symbol": symbol, "color": colour},
            error_y=whiskers(
                ((row.value, row.low, row.high) if row else None for row in kept),
                100,
                thickness=1,
                width=3,
                color=colour,
            ),
            customdata=[[100 * r.low, 100 * r.high, r.n, r.maps] if r else None for r in kept],
            hovertemplate="%{x}: %{y:.1f} % (95 % %{customdata[0]:.1f} to %{customdata[1]:.1f}, "
            "%{customdata[2]} scenes, %{customdata[3]} maps)<extra>" + name + "</extra>",
        )
    figure.add_hline(
        y=100 * rows[0].area,
        line={"color": _GREY, "dash": "dash", "width": 1.5},
        annotation={"text": "the object's area", "font": {"color": _TEXT}},
        annotation_position="top left",
    )
    dress(figure, 560)
    figure.update_yaxes(title_text="on the named object, %", rangemode="tozero")
    figure.update_xaxes(
        type="category",
        categoryorder="array",
        categoryarray=order,
        tickangle=-45,
        range=[-0.5, len(order) - 0.5],
    )
    figure.update_layout(legend={"orientation": "h", "y": -0.25, "yanchor": "top"})
    return figure


def style_of(place: int) -> tuple[str, str, str]:
    """Colour, mark and stroke of what stands at a place of a list."""
    return _STYLES[place % len(_STYLES)]


def dress(figure: "Figure", height: int) -> None:
    """Makes a figure fit a light page and a dark one.

    Args:
        figure: which.
        height: in pixels.
    """
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": _TEXT, "family": "system-ui, sans-serif", "size": 13},
        height=height,
        margin={"l": 84, "r": 20, "t": 36, "b": 90},
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zeroline=False, automargin=True)
