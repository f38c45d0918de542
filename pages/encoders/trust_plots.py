"""Plots of how true maps are, by plotly, on light and on dark."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pages.encoders.plots import dress, style_of
from pages.whiskers import whiskers
from vlm4vla.attribution.names import METHODS
from vlm4vla.attribution.trust_results import REGIONS, TARGETS, WHEN, Measure, TrustTable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_RULE: Final = {"color": "#8a919c", "dash": "dash", "width": 1.5}
_SHARES: Final = ("mass", "pointing")
_MARGIN: Final = {"l": 60, "r": 16, "t": 40, "b": 50}
"""Plotly's buttons, which a touch screen always shows, lie above."""
_BELOW: Final = {"orientation": "h", "yanchor": "top", "x": 0}
_FIRST: Final = next(iter(WHEN))
_AREA: Final = "area in the picture"
_REGION_COLOURS: Final = ("#d55e00", "#e69f00", "#009e73", "#56b4e9", "#0072b2", "#8a919c")


def measured(tables: Sequence[TrustTable], target: str, measure: Measure) -> "Figure":
    """A measure of every method's maps: a mark a policy, filled at first and open later on.

    Args:
        tables: the policies'.
        target: what the maps explain.
        measure: which.
    """
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    names = list(METHODS)
    share = 100 if measure.name in _SHARES else 1
    lines = []
    for index, table in enumerate(tables):
        colour, symbol, _ = style_of(index)
        for late, (when, meaning) in enumerate(WHEN.items()):
            found = [
                (place, row, told)
                for place, method in enumerate(names)
                if (row := table.find(when, target, method)) and (told := measure.of(row))
            ]
            if not found:
                continue
            aside = 0.13 * (2 * index + late - len(tables) + 0.5)
            lines += [share * measure.chance(row) for _, row, _ in found]
            ends = [
                (one.value, one.low, one.high)
                if one.low is not None and one.high is not None
                else None
                for *_, one in found
            ]
            figure.add_scatter(
                x=[share * told.value for *_, told in found],
                y=[place + aside for place, *_ in found],
                mode="markers",
                name=f"{table.name}, {meaning}",
                marker={
                    "size": 9,
                    "symbol": symbol + ("-open" if late else ""),
                    "color": colour,
                    "line": {"width": 1.5, "color": colour},
                },
                error_x=whiskers(ends, share, thickness=1.2, width=0, color=colour),
                customdata=[_told(told, share) for *_, told in found],
                text=[names[place] for place, *_ in found],
                hovertemplate="%{text}: %{customdata}<extra>" + f"{table.name}, {meaning}</extra>",
            )
    if lines:
        figure.add_vline(sum(lines) / len(lines), line=_RULE)
    dress(figure, 640)
    figure.update_xaxes(title_text=_axis(measure, target))
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5]
    )
    figure.update_layout(margin=_MARGIN, legend={**_BELOW, "y": -0.14})
    return figure


def _axis(measure: Measure, target: str) -> str:
    """The unit; what is measured stands in the menu above."""
    if measure.name in _SHARES:
        return "%"
    return TARGETS[target] if measure.gain else ""


def _told(found: Any, share: float) -> str:
    ends = ""
    if found.low is not None:
        ends = f"95 % {share * found.low:.2f} to {share * found.high:.2f}, "
    return f"{share * found.value:.2f} ({ends}n = {found.n})"


def masses(table: TrustTable, target: str) -> "Figure":
    """How the mass of each method's first maps is shared among the parts of the picture.

    Args:
        table: the policy's.
        target: what the maps explain.
    """
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    rows = [row for method in METHODS if (row := table.find(_FIRST, target, method))]
    for (region, meaning), colour in zip(REGIONS.items(), _REGION_COLOURS, strict=True):
        names, values, told = [], list[float](), []
        for row in rows:
            if (found := row["mass"].get(region)) and found["n"]:
                names.append(row["method"])
                # Tasks without such a part have nothing there, so that a bar ends at 100 %.
                values.append(100 * found["mean"] * found["n"] / row["n"])
                told.append(_of_those_with_it(found, row["n"]))
        if rows and (area := rows[0]["pixels"].get(region)) and area["n"]:
            names.append(_AREA)
            values.append(100 * area["mean"] * area["n"] / rows[0]["n"])
            told.append("what a map that is the same everywhere has")
        figure.add_bar(
            x=values,
            y=names,
            orientation="h",
            name=meaning,
            marker={"color": colour, "line": {"width": 0}},
            customdata=told,
            hovertemplate="%{y}: %{x:.1f} % (%{customdata})<extra>" + meaning + "</extra>",
        )
    dress(figure, 440)
    figure.update_layout(
        barmode="stack",
        margin=_MARGIN,
        legend={**_BELOW, "y": -0.1, "traceorder": "normal"},
    )
    figure.update_xaxes(ticksuffix=" %")
    figure.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=[*METHODS, _AREA]
    )
    return figure


def _of_those_with_it(found: Any, episodes: int) -> str:
    ends = f"95 % {100 * found['low']:.1f} to {100 * found['high']:.1f}, n = {found['n']}"
    if found["n"] == episodes:
        return ends
    return f"{100 * found['mean']:.1f} % in the tasks that have it, {ends}"


def agreement(table: TrustTable, target: str) -> "Figure":
    """Rank correlation of the sizes of scores of every two methods' first maps.

    Args:
        table: the policy's.
        target: what the maps explain.
    """
    import plotly.graph_objects as go  # half a second

    names = [one for one in METHODS if table.find(_FIRST, target, one)]
    values: list[list[float | None]] = []
    told: list[list[str]] = []
    for method in names:
        row = table.find(_FIRST, target, method)
        found = row["agreement"] if row else {}
        values.append([found[other]["mean"] if other in found else None for other in names])
        told.append([_between(found.get(other)) for other in names])
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            zmin=-1,
            zmax=1,
            zmid=0,
            colorscale="RdBu",
            reversescale=True,
            colorbar={
                "title": {"text": "agreement", "side": "top"},
                "orientation": "h",
                "thickness": 12,
                "y": 1.02,
                "yanchor": "bottom",
            },
            customdata=told,
            texttemplate="%{z:.1f}",
            textfont={"size": 10},
            hoverongaps=False,
            hovertemplate="%{y} and %{x}: %{z:.2f} (%{customdata})<extra></extra>",
        )
    )
    dress(figure, 540)
    figure.update_layout(margin={**_MARGIN, "t": 110})
    figure.update_xaxes(tickangle=-90, showgrid=False, tickmode="linear")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def _between(found: Any) -> str:
    if not found or found["low"] is None:
        return ""
    return f"95 % {found['low']:.2f} to {found['high']:.2f}, n = {found['n']}"
