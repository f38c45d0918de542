"""How far rollouts lead from training pictures, below the open-loop errors of the Encoders page."""

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
from vlm4vla.eval.open_loop_results import DISTANCE, SHIPPED, read_results
from vlm4vla.eval.picture_distance import FAILURE, FEWEST, PARTS, SUCCESS, UNSEEN

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_EMPTY: Final = (
    "No distance has been measured yet. Run `vlm4vla distance --checkpoint qwen3vl-tiny "
    "internvl-tiny paligemma-tiny`."
)

_METHOD: Final = """\
Every picture of an episode is read by the policy's own vision; its mean token behind the projector
is compared with those of 100 episodes of the expert in scenes of training, and what counts is how
far the nearest one is. What a policy learned from holds more: noise, other starts, and frames that
a policy got into itself. The unit is the median of that distance along the expert's own way in
scenes that nobody learned from: 1 is as near as the expert stays. Scenes are those that checkpoints
are chosen by, the same for expert and policy. Intervals are bootstraps over episodes (95 %). A
failure and a success are compared up to where the shorter of the two ends.
"""

_NAMES: Final = {
    UNSEEN: "expert, unseen scenes",
    SUCCESS: "policy, successes",
    FAILURE: "policy, failures",
}
_DASHES: Final = {UNSEEN: "dot", SUCCESS: "solid", FAILURE: "dash"}

Results = Sequence[Mapping[str, Any]]


def section(opened: Dependency, folder: Path = SHIPPED) -> None:
    """Lays the section out; it only reads what `vlm4vla distance` wrote.

    Args:
        opened: the event after which it is filled.
        folder: of the results.
    """
    gr.Markdown("### How far rollouts lead from what was learned from", elem_id="distance")
    said = gr.HTML("", elem_id="distance-answer")
    plot = gr.Plot(visible=False, show_label=False, elem_id="distance-plot")
    made = gr.HTML("", elem_id="distance-made")
    gr.Markdown(_METHOD)
    opened.then(
        lambda: answer(folder),
        outputs=[said, plot, made],
        show_progress="hidden",
        api_visibility="private",
    )


def answer(folder: Path) -> list[Any]:
    """Updates of the section's parts."""
    try:
        found = read_results(folder, DISTANCE)
    except UserError as error:
        return [message_html(str(error)), gr.Plot(visible=False), ""]
    if not found:
        return [message_html(_EMPTY), gr.Plot(visible=False), ""]
    said = " ".join(sentence(one) for one in found)
    return [
        f'<p class="ea">{html.escape(said)}</p>',
        gr.Plot(along_the_episode(found), visible=True),
        _made(found),
    ]


def sentence(one: Mapping[str, Any]) -> str:
    """What is to be read first of a policy."""
    means = {row["group"]: row["mean"] for row in one["groups"]}
    told = [
        f"{name} {_text(means[group])}"
        for group, name in ((SUCCESS, "successes"), (FAILURE, "failures"))
        if group in means
    ]
    # Every policy has a unit of its own: these are no distances between policies.
    said = f"{one['name']}: {', '.join(told)} times the expert's median."
    if one["told"] is None:
        return f"{said} {one['failures']} failures are too few to compare (below {FEWEST})."
    share = 100 * one["told"]
    return (
        f"{said} A failure is further off than a success of its task in {share:.0f} % of pairs "
        "(50 % is chance)."
    )


def along_the_episode(found: Results) -> "Figure":
    """Distance by tenth of an episode: a policy's successes and failures, and the expert."""
    import plotly.graph_objects as go  # half a second

    figure = go.Figure()
    places = [(2 * part + 1) / (2 * PARTS) for part in range(PARTS)]
    for index, one in enumerate(found):
        colour, symbol, _ = style_of(index)
        for row in one["groups"]:
            ends = [(value["mean"], value["low"], value["high"]) for value in row["parts"]]
            figure.add_scatter(
                x=places,
                y=[middle for middle, *_ in ends],
                error_y=whiskers(ends, thickness=1, width=3, color=colour),
                mode="lines+markers",
                name=f"{one['name']}: {_NAMES[row['group']]}, n = {row['mean']['n']}",
                marker={"size": 8, "symbol": symbol, "color": colour},
                line={"color": colour, "dash": _DASHES[row["group"]]},
                hovertemplate="%{x:.0%} of the episode: %{y:.2f}<extra>" + one["name"] + "</extra>",
            )
    dress(figure, 460)
    figure.update_layout(margin_b=70, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    figure.update_yaxes(title_text="distance, expert's median = 1", rangemode="tozero")
    figure.update_xaxes(title_text="of the episode", tickformat=".0%", range=[0, 1])
    return figure


def to_csv(found: Results) -> str:
    """A line a policy, group and part of the episode, and one for the whole of it."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(["policy", "checkpoint", "group", "part", "ratio", "low", "high", "n"])
    for one in found:
        for row in one["groups"]:
            for part, value in (("all", row["mean"]), *enumerate(row["parts"], 1)):
                of = (one["name"], one["checkpoint"], row["group"], part)
                writer.writerow([*of, value["mean"], value["low"], value["high"], value["n"]])
    return target.getvalue()


def _made(found: Results) -> str:
    lines = "".join(
        f"<li>{html.escape(one['name'])}: {one['pictures']} pictures of {one['episodes']} episodes "
        f"of training. Made by <code>{html.escape(one['command'])}</code></li>"
        for one in found
    )
    link = csv_link("picture-distance.csv", to_csv(found), "All distances, as CSV")
    return f"<ul>{lines}</ul><p>{link}</p>"


def _text(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.2f} (95 % {value['low']:.2f} to {value['high']:.2f})"
