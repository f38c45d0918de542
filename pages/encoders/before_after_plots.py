"""Plots of what training did to probes and layers: one cell by layer, and all cells at a layer."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pages.encoders.plots import dress, style_of
from pages.whiskers import whiskers
from vlm4vla.representations.summary import part_of
from vlm4vla.studies.before_after import CellChange, LayerChange
from vlm4vla.studies.measures import PROJECTOR, Row

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_BEFORE: Final = "before training"
_AFTER: Final = "after training"
_MARKS: Final = {_BEFORE: "circle-open", _AFTER: "circle"}
_COLOURS: Final = {_BEFORE: style_of(1)[0], _AFTER: style_of(0)[0]}
_DASHES: Final = {_BEFORE: "dash", _AFTER: "solid"}
_ALIKE: Final = style_of(2)[0]

_RULE: Final = {"color": "#8a919c", "dash": "dash", "width": 1.5}
_TEXT: Final = "#7a828e"
"""Readable on a light page and on a dark one."""

_ASIDE: Final = {_BEFORE: -0.11, _AFTER: 0.11}
"""How far a score stands from its layer's place, so that both intervals can be seen."""

_HEIGHT: Final = 580
_ROW: Final = 44
_BUTTONS: Final = 34
"""Pixels: of the plot of one cell, of a row of the overview, and of plotly's buttons."""

_HEAD: Final = 0.6
_FAN: Final = 0.17
"""The head of a block, and how far training seeds are apart, as shares of a row."""


class _Point(NamedTuple):
    """A point of a line over the layers; `ends` are those of its interval, None without one."""

    x: float
    y: float
    ends: tuple[float, float, float] | None
    layer: str
    told: str


class _OverviewRow(NamedTuple):
    """Cells that the training seed alone sets apart, the place of their middle, and their level."""

    place: float
    level: str
    cells: Sequence[CellChange]


def by_layer(change: CellChange) -> "Figure":
    """A cell's probe by layer before and after training; below it every layer's CKA with its start.

    Args:
        change: of the cell.
    """
    from plotly.subplots import make_subplots  # half a second

    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.06
    )
    names = [one.layer for one in change.layers]
    share = _share(change)
    for title in (_BEFORE, _AFTER):
        rows = [_side(one, title) for one in change.layers]
        points = [
            _Point(
                place + _ASIDE[title], share * row.score, _ends(row), row.layer, _told(row, share)
            )
            for place, row in enumerate(rows)
            if row
        ]
        figure.add_scatter(
            **_line(points),
            name=title,
            error_y=_whiskers([one and one.ends for one in _broken(points)], share, title),
            marker=_marker(title, 9),
            line={"color": _COLOURS[title], "width": 2, "dash": _DASHES[title]},
            hovertemplate=f"%{{customdata[0]}}<extra>{title}</extra>",
            row=1,
            col=1,
        )
    alike = [
        _Point(place, one.cka, None, one.layer, f"{one.layer}: CKA {one.cka:.2f}")
        for place, one in enumerate(change.layers)
        if one.cka is not None
    ]
    figure.add_scatter(
        **_line(alike),
        showlegend=False,
        marker={"size": 7, "symbol": "square", "color": _ALIKE},
        line={"color": _ALIKE, "width": 2},
        hovertemplate="%{customdata[0]}<extra>with its start</extra>",
        row=2,
        col=1,
    )
    dress(figure, _HEIGHT)
    if change.baseline is not None:
        figure.add_hline(
            share * change.baseline,
            line=_RULE,
            annotation=_always(share),
            annotation_position="top right",
            row=1,
            col=1,
        )
    if PROJECTOR in names:
        _mark_projector(figure, names.index(PROJECTOR))
    figure.update_xaxes(range=[-0.5, len(names) - 0.5], tickvals=list(range(len(names))))
    figure.update_xaxes(ticktext=names, tickfont_size=11, tickangle=-45, row=2, col=1)
    figure.update_yaxes(
        title_text=_unit(share), rangemode="tozero" if share == 1 else "normal", row=1, col=1
    )
    lowest = min([0.0, *(one.y for one in alike)])
    figure.update_yaxes(title_text="CKA", range=[lowest - 0.05, 1.05], row=2, col=1)
    figure.update_layout(margin={"l": 60, "r": 12, "t": 100, "b": 70}, legend=_legend(_HEIGHT))
    return figure


def overview(
    found: Sequence[CellChange], href: Callable[[CellChange], str], layer: str = PROJECTOR
) -> "Figure":
    """What a probe reads at a layer of every measured cell, before and after training.

    Args:
        found: the cells; those that are compared stand below one head.
        href: where a cell is shown.
        layer: which.
    """
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    share = _share(found[0])
    rows, heads, height = _laid_out(found)
    for title in (_BEFORE, _AFTER):
        points = [
            (one, place, row)
            for of_level in rows
            for one, place in _fanned(of_level)
            if (known := one.at(layer)) and (row := _side(known, title))
        ]
        figure.add_scatter(
            x=[share * row.score for *_, row in points],
            y=[place for _, place, _ in points],
            error_x=_whiskers([_ends(row) for *_, row in points], share, title),
            mode="markers",
            name=title,
            marker=_marker(title, 10),
            customdata=[[_told(row, share), href(one), one.label] for one, _, row in points],
            hovertemplate=f"%{{customdata[2]}}<br>%{{customdata[0]}}<extra>{title}</extra>",
        )
    for of_level in rows:
        _write(figure, of_level.level, of_level.place - 0.42)
    for place, head in heads:
        _write(figure, f"<b>{head}</b>", place)
    pixels = round(height * _ROW) + 160
    dress(figure, pixels)
    if found[0].baseline is not None:
        figure.add_vline(share * found[0].baseline, line=_RULE)
        # Above the heads of blocks; errors lie on the left of it, and accuracies on the right.
        figure.add_annotation(
            **_always(share),
            x=share * found[0].baseline,
            y=1,
            yref="paper",
            yanchor="bottom",
            xanchor="right" if share == 1 else "left",
            showarrow=False,
        )
    figure.update_xaxes(title_text=_unit(share))
    figure.update_yaxes(visible=False, range=[height - 0.1, 0])
    figure.update_layout(margin={"l": 12, "r": 12, "t": 90, "b": 60}, legend=_legend(pixels))
    return figure


def _side(layer: LayerChange, title: str) -> Row | None:
    return layer.before if title == _BEFORE else layer.after


def _share(change: CellChange) -> int:
    """From a score's unit to the plot's: cm stay, and shares become per cent."""
    return 1 if change.target.metric == "cm" else 100


def _unit(share: int) -> str:
    if share == 1:
        return "mean distance, cm (lower is better)"
    return "balanced accuracy, % (higher is better)"


def _told(row: Row, share: int) -> str:
    said = f"{row.layer}: {share * row.score:.2f}"
    if row.low is not None and row.high is not None:
        said += f" (95 % {share * row.low:.2f} to {share * row.high:.2f})"
    return f"{said}, n = {row.n}"


def _ends(row: Row) -> tuple[float, float, float] | None:
    if row.low is None or row.high is None:
        return None
    return row.score, row.low, row.high


def _marker(title: str, size: int) -> dict[str, Any]:
    return {"size": size, "symbol": _MARKS[title], "color": _COLOURS[title]}


def _whiskers(
    ends: Sequence[tuple[float, float, float] | None], share: int, title: str
) -> dict[str, Any]:
    return whiskers(ends, share, thickness=1.5, width=3, color=_COLOURS[title])


def _legend(height: int) -> dict[str, Any]:
    """Below plotly's buttons, which a touch screen always shows."""
    return {"orientation": "h", "yref": "container", "yanchor": "top", "y": 1 - _BUTTONS / height}


def _line(points: Sequence[_Point]) -> dict[str, Any]:
    found = _broken(points)
    return {
        "x": [one.x if one else None for one in found],
        "y": [one.y if one else None for one in found],
        "customdata": [[one.told] if one else None for one in found],
        "mode": "lines+markers",
    }


def _broken(points: Sequence[_Point]) -> list[_Point | None]:
    """Points with a gap wherever another part of the network begins."""
    found: list[_Point | None] = []
    for place, point in enumerate(points):
        if place and part_of(points[place - 1].layer) != part_of(point.layer):
            found.append(None)
        found.append(point)
    return found


def _always(share: int) -> dict[str, Any]:
    """What is written beside the line of whoever does not look."""
    text = "always the mean" if share == 1 else "always the same answer"
    return {"text": text, "font": {"color": _TEXT}}


def _mark_projector(figure: "Figure", place: int) -> None:
    figure.add_vline(x=place, line={"color": _TEXT, "width": 2}, layer="below")
    figure.add_annotation(
        x=place,
        y=1.0,
        yref="paper",
        yanchor="bottom",
        text=PROJECTOR,
        showarrow=False,
        font={"color": _TEXT},
    )


def _laid_out(
    found: Sequence[CellChange],
) -> tuple[list[_OverviewRow], list[tuple[float, str]], float]:
    """Rows and heads from the top down, and how high all of them are, in rows."""
    blocks: dict[str, dict[str, list[CellChange]]] = {}
    for one in found:
        cell = one.member.cell
        head = f"{one.study}: {cell.start.family} at {cell.learning_rate:g}"
        blocks.setdefault(head, {}).setdefault(one.member.level, []).append(one)
    rows: list[_OverviewRow] = []
    heads: list[tuple[float, str]] = []
    height = 0.0
    for head, levels in blocks.items():
        heads.append((height + 0.3, head))
        height += _HEAD
        for level, cells in levels.items():
            height += 1
            rows.append(_OverviewRow(height - 0.3, level, cells))
    return rows, heads, height


def _fanned(row: _OverviewRow) -> Iterator[tuple[CellChange, float]]:
    """A row's cells, each with its own place."""
    middle = (len(row.cells) - 1) / 2
    for number, one in enumerate(row.cells):
        yield one, row.place + _FAN * (number - middle)


def _write(figure: "Figure", text: str, place: float) -> None:
    figure.add_annotation(
        x=0,
        xref="paper",
        xanchor="left",
        xshift=8,
        y=place,
        text=text,
        showarrow=False,
        font={"color": _TEXT, "size": 13},
    )
