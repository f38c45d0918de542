"""From loss to success, on the Encoders page: how far policies are from the expert, open loop."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gradio as gr
from gradio.events import Dependency

from pages.csv_link import csv_link
from pages.encoders.plots import dress, style_of
from pages.message import message_html
from pages.whiskers import whiskers
from vlm4vla.errors import UserError
from vlm4vla.eval.open_loop import ALL, DIMENSIONS, LENGTH, MEASURES, PHASES, STILL
from vlm4vla.eval.open_loop_results import SHIPPED, read_results
from vlm4vla.statistics import wilson

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_EMPTY: Final = (
    "No policy has been measured yet. Run `vlm4vla openloop --checkpoint qwen3vl-tiny "
    "internvl-tiny paligemma-tiny`."
)

_METHOD: Final = """\
The policy is asked at every step of episodes that the expert plays, on seeds that checkpoints are
chosen by, and moves nothing. Its first action is compared with what the expert did next:
**approach** is before the named object is touched, **contact** from then on, **carry** from when
both fingers hold it. Later actions of a chunk are compared with what the expert did later. Who
stands still is who always commands no motion. Intervals are bootstraps over episodes (95 %).
Success is that of the same weights in closed loop, on other scenes, as the checkpoint's card has
it.
"""

_BESIDE: Final = ("middle left", "bottom right", "top right")
"""Where a policy's points have their names, so that those of neighbours do not cover each other."""

Results = Sequence[Mapping[str, Any]]


def section(opened: Dependency, folder: Path = SHIPPED) -> None:
    """Lays the section out; it only reads what `vlm4vla openloop` wrote.

    Args:
        opened: the event after which it is filled.
        folder: of the results.
    """
    gr.Markdown("## From loss to success", elem_id="loss")
    said = gr.HTML("", elem_id="loss-answer")
    phases = gr.Plot(visible=False, show_label=False, elem_id="loss-phases")
    with gr.Row():
        along = gr.Plot(visible=False, show_label=False, elem_id="loss-along")
        success = gr.Plot(visible=False, show_label=False, elem_id="loss-success")
    fingers = gr.HTML("", elem_id="loss-fingers")
    gr.Markdown(_METHOD)
    opened.then(
        lambda: answer(folder),
        outputs=[said, phases, along, success, fingers],
        show_progress="hidden",
        api_visibility="private",
    )


def answer(folder: Path) -> list[Any]:
    """Updates of the section's parts."""
    try:
        found = read_results(folder)
    except UserError as error:
        return [message_html(str(error)), *[gr.Plot(visible=False)] * 3, ""]
    if not found:
        return [message_html(_EMPTY), *[gr.Plot(visible=False)] * 3, ""]
    return [
        f'<p class="ea">{html.escape(sentence(found))}</p>',
        gr.Plot(by_phase(found), visible=True),
        gr.Plot(along_the_chunk(found), visible=True),
        gr.Plot(error_and_success(found), visible=True),
        _fingers(found),
    ]


def sentence(found: Results) -> str:
    """What is to be read first: errors overall, and the success that goes with them."""
    told = []
    for one in found:
        row = _row(one, ALL, ALL)
        done = [sum(count) for count in zip(*one["success"].values(), strict=True)]
        closed = "not evaluated"
        if done:
            rate = wilson(*done)
            closed = (
                f"succeeds in {rate.successes} of {rate.n} (95 % {100 * rate.low:.0f} to "
                f"{100 * rate.high:.0f} %)"
            )
        told.append(f"{one['name']} is {_text(row[LENGTH])} mm from the expert and {closed}")
    still = _row(found[0], ALL, ALL)[STILL]["mean"]
    return f"{'; '.join(told)}. Whoever stands still is {still:.1f} mm from it."


def by_phase(found: Results) -> "Figure":
    """Errors by phase and dimension, a mark a policy, with intervals."""
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    for index, one in enumerate(found):
        cells = [
            (phase, name, row[name])
            for phase in PHASES
            if (row := _row(one, ALL, phase))
            for name in (*DIMENSIONS, LENGTH)
        ]
        figure.add_scatter(
            x=[[phase for phase, *_ in cells], [name for _, name, _ in cells]],
            y=[value["mean"] for *_, value in cells],
            customdata=[[value["low"], value["high"], value["n"]] for *_, value in cells],
            error_y=_whiskers([value for *_, value in cells], index),
            mode="markers",
            name=one["name"],
            marker=_mark(index),
            hovertemplate="%{x}: %{y:.2f} mm (95 % %{customdata[0]:.2f} to %{customdata[1]:.2f}, "
            "%{customdata[2]} episodes)<extra>" + one["name"] + "</extra>",
        )
    dress(figure, 400)
    figure.update_layout(margin_b=70)
    figure.update_yaxes(title_text="from the expert's action, mm", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return figure


def along_the_chunk(found: Results) -> "Figure":
    """The error of every action of a chunk."""
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    for index, one in enumerate(found):
        places = list(range(1, len(one["along"]) + 1))
        figure.add_scatter(
            x=places,
            y=[value["mean"] for value in one["along"]],
            error_y=_whiskers(one["along"], index),
            mode="lines+markers",
            name=one["name"],
            marker=_mark(index),
            line={"color": style_of(index)[0], "dash": style_of(index)[2]},
            hovertemplate="action %{x}: %{y:.2f} mm<extra>" + one["name"] + "</extra>",
        )
    dress(figure, 340)
    figure.update_layout(margin_b=70, margin_r=50)
    figure.update_yaxes(title_text="from the expert's action, mm", rangemode="tozero")
    figure.update_xaxes(title_text="action of the chunk", dtick=1)
    figure.update_layout(showlegend=False)
    return figure


def error_and_success(found: Results) -> "Figure":
    """Success in closed loop against the error, a point a task and policy."""
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    for index, one in enumerate(found):
        tasks = [task for task in one["success"] if _row(one, task, ALL)]
        rates = [wilson(*one["success"][task]) for task in tasks]
        figure.add_scatter(
            x=[_row(one, task, ALL)[LENGTH]["mean"] for task in tasks],
            y=[100 * rate.rate for rate in rates],
            error_y=whiskers(
                ((rate.rate, rate.low, rate.high) for rate in rates), 100, **_bar(index)
            ),
            mode="markers+text",
            text=tasks,
            textposition=_BESIDE[index % len(_BESIDE)],
            textfont={"size": 11},
            cliponaxis=False,
            name=one["name"],
            marker=_mark(index),
            hovertemplate="%{text}: %{x:.2f} mm, %{y:.0f} %<extra>" + one["name"] + "</extra>",
        )
    dress(figure, 340)
    figure.update_layout(margin_b=70, margin_r=50)
    figure.update_yaxes(title_text="success, %")
    figure.update_xaxes(title_text="from the expert's action, mm")
    figure.update_layout(showlegend=False)
    return figure


def _fingers(found: Results) -> str:
    """When the fingers close, the commands, and the numbers as a file."""
    lines = []
    for one in found:
        told = one["fingers"]
        late = told["late"]
        when = (
            "never closes them"
            if late is None
            else f"closes them {_text(late, '.2f')} steps after the expert would"
        )
        otherwise = {name: 100 * told["otherwise"][name] for name in ("mean", "low", "high")}
        lines.append(
            f"<li><b>{html.escape(one['name'])}</b> {when} (in {told['never']} of "
            f"{told['closing']} episodes never), and commands them otherwise at {_text(otherwise)} "
            f"% of the steps. {one['episodes']} episodes. Made by <code>"
            f"{html.escape(one['command'])}</code></li>"
        )
    return (
        f"<h3>Fingers</h3><ul>{''.join(lines)}</ul>"
        f"<p>{csv_link('open-loop.csv', to_csv(found), 'All errors, as CSV')}</p>"
    )


def to_csv(found: Results) -> str:
    """A line a policy, task, phase and measure."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(["policy", "checkpoint", "task", "phase", "measure", "mm", "low", "high", "n"])
    for one in found:
        for row in one["rows"]:
            for name in MEASURES:
                value = row[name]
                of = (one["name"], one["checkpoint"], row["task"], row["phase"], name)
                writer.writerow([*of, value["mean"], value["low"], value["high"], value["n"]])
    return target.getvalue()


def _row(one: Mapping[str, Any], task: str, phase: str) -> Mapping[str, Any]:
    rows = [row for row in one["rows"] if row["task"] == task and row["phase"] == phase]
    return rows[0] if rows else {}


def _mark(index: int) -> dict[str, Any]:
    colour, symbol, _ = style_of(index)
    return {"size": 10, "symbol": symbol, "color": colour}


def _whiskers(values: Sequence[Mapping[str, float]], index: int) -> dict[str, Any]:
    ends = ((value["mean"], value["low"], value["high"]) for value in values)
    return whiskers(ends, **_bar(index))


def _bar(index: int) -> dict[str, Any]:
    return {"thickness": 1, "width": 3, "color": style_of(index)[0]}


def _text(value: Mapping[str, float], digits: str = ".1f") -> str:
    mean, low, high = (format(value[name], digits) for name in ("mean", "low", "high"))
    return f"{mean} (95 % {low} to {high})"
