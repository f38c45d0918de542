"""Which maps deserve trust, on the Encoders page: the trust tables that come with the project."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import gradio as gr
from gradio.events import Dependency

from pages.csv_link import csv_link
from pages.encoders.trust_plots import agreement, masses, measured
from pages.message import message_html
from vlm4vla.attribution.names import METHODS
from vlm4vla.attribution.names import TARGETS as MEANINGS
from vlm4vla.attribution.trust_results import (
    MEASURES,
    RULES,
    SHIPPED,
    TARGETS,
    Measure,
    TrustTable,
    against_each,
    measures_csv,
    read_trust,
    sentence,
    shares_csv,
)

_FOLDER: Final = Path(__file__).parent

TARGET: Final = "trust-target"
MEASURE: Final = "trust-measure"
POLICY: Final = "trust-policy"
"""What they are called in the address; see `address.js`."""

_EMPTY: Final = (
    "No map has been measured yet. Run `vlm4vla trust --checkpoint qwen3vl-tiny --out DIR` and put "
    "its `trust.json` into assets/results as `trust-qwen3vl-tiny.json`."
)

_MEASURES: Final = [(one.meaning, one.name) for one in MEASURES]

_METHOD: Final = """\
A map deserves trust if it passes three rules, which stood in the code before the tables were made:
covering the cells that it marks first makes the value fall sooner than covering random ones
(**deletion**), uncovering them first brings it back sooner (**insertion**), both at the first
inference and at the later one where policy and expert part most; and its **agreement** (rank
correlation) with the map of the same policy with randomised weights lies below 0.5. A rule is
passed if the whole 95 % interval lies on the right side (Student's t over episodes, Wilson for
counts); nothing is adjusted for how many are compared. Deletion, insertion and infidelity cover
cells with the mean colour, as *occlusion* does, which favours it. Where a map points, and how much
of it lies on the named object, is no rule: a policy may act on something else.

A planted policy that sees nothing but a marker in one corner of its picture is kept as a test of
the methods themselves (`tests/attribution/test_trust.py`): all three occlusions put 98 % or more of
their map into that corner and foretell what covering does (infidelity below 0.5); gradient times
input, rollout and attention point elsewhere. `docs/attribution.md` says how each measure is made.
"""


def section(opened: Dependency, folder: Path = SHIPPED) -> None:
    """Lays the section out; it only reads what `vlm4vla trust` wrote.

    Args:
        opened: the event after which it is filled.
        folder: of the tables.
    """
    gr.Markdown("## Which maps deserve trust", elem_id="trust")
    said = gr.HTML("", elem_id="trust-answer")
    with gr.Row(elem_id="trust-controls"):
        target = gr.Radio(
            [(MEANINGS[name], name) for name in TARGETS],
            value=next(iter(TARGETS)),
            label="Maps explain",
            scale=2,
            min_width=280,
        )
        measure = gr.Dropdown(
            _MEASURES,
            value=MEASURES[0].name,
            label="Measure",
            scale=2,
            min_width=280,
        )
    passed = gr.HTML("", elem_id="trust-passed")
    plot = gr.Plot(visible=False, show_label=False, elem_id="trust-measured")
    below = gr.HTML("", elem_id="trust-below")
    gr.Markdown("### Where the maps of one policy lie, and how alike they are")
    policy = gr.Dropdown([], label="Policy", elem_id="trust-policy")
    shares = gr.Plot(visible=False, show_label=False, elem_id="trust-masses")
    alike = gr.Plot(visible=False, show_label=False, elem_id="trust-agreement")
    made = gr.HTML("", elem_id="trust-made")
    gr.Markdown(_METHOD)
    address = gr.HTML(
        None,
        html_template="",
        js_on_load=(_FOLDER / "section_address.js").read_text("utf-8"),
        elem_id="trust-address",
        visible="hidden",
    )
    inputs = [target, measure, policy]
    outputs = [said, *inputs, passed, plot, below, shares, alike, made, address]

    def first_sight(request: gr.Request) -> list[Any]:
        return answer(folder, {k: str(v) for k, v in request.query_params.items()})

    def choose(which: str, by: str, whose: str | None) -> list[Any]:
        return answer(folder, {TARGET: which, MEASURE: by, POLICY: whose or ""})

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    opened.then(first_sight, outputs=outputs, **quiet)
    gr.on(
        [target.input, measure.input, policy.input],
        choose,
        inputs,
        outputs,
        trigger_mode="always_last",
        **quiet,
    )


def answer(folder: Path, asked: Mapping[str, str]) -> list[Any]:
    """Updates of the section's parts for an address.

    Args:
        folder: of the tables.
        asked: parameters by name: `TARGET`, `MEASURE` and `POLICY`; what is missing or unknown is
            chosen.
    """
    tables = read_trust(folder)
    target = asked.get(TARGET, "")
    target = target if target in TARGETS else next(iter(TARGETS))
    measure = next((one for one in MEASURES if one.name == asked.get(MEASURE)), MEASURES[0])
    menus = [gr.Radio(value=target), gr.Dropdown(_MEASURES, value=measure.name)]
    if not tables:
        hidden = [gr.Plot(visible=False)] * 2
        said = message_html(_EMPTY)
        return [said, *menus, gr.Dropdown([], value=None), "", hidden[0], "", *hidden, "", None]
    table = next((one for one in tables if one.name == asked.get(POLICY)), tables[0])
    return [
        f'<p class="ea">{html.escape(sentence(tables, target))}</p>',
        *menus,
        gr.Dropdown([one.name for one in tables], value=table.name),
        _passed(tables, target),
        gr.Plot(measured(tables, target, measure), visible=True),
        _below(tables, target, measure),
        gr.Plot(masses(table, target), visible=True),
        gr.Plot(agreement(table, target), visible=True),
        _made(table, target),
        {TARGET: target, MEASURE: measure.name, POLICY: table.name},
    ]


def _passed(tables: Sequence[TrustTable], target: str) -> str:
    """Which rules each method fails, a column a policy."""
    against = [against_each(table.rows, target) for table in tables]
    heads = "".join(f'<th scope="col">{html.escape(one.name)}</th>' for one in tables)
    rows = ""
    for method, meaning in METHODS.items():
        cells = "".join(_cell(found.get(method)) for found in against)
        rows += f'<tr><th scope="row" title="{html.escape(meaning)}">{method}</th>{cells}</tr>'
    return (
        "<p>What speaks against each method: <b>deletion</b> or <b>insertion</b> not above random "
        "orders at one of the two inferences, or a map not shown to change with the "
        "<b>weights</b>.</p>"
        '<div class="tr-scroll" tabindex="0" role="region" aria-label="Rules that methods fail">'
        "<table>"
        f'<thead><tr><th scope="col">method</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(against: Sequence[str] | None) -> str:
    if against is None:
        return "<td>not measured</td>"
    words = [word for reason, word in RULES.items() if reason in against]
    return f"<td>{', '.join(words) or '<b>nothing</b>'}</td>"


def _below(tables: Sequence[TrustTable], target: str, measure: Measure) -> str:
    """What stands under the plot of a measure: its n, its commands, and its numbers as a file."""
    counts = list(dict.fromkeys(one.episodes for one in tables))
    episodes = " or ".join(f"{count}" for count in counts)
    counted = f"n = {episodes} episodes a policy, two inferences of each"
    if measure.name == "collapse":
        few = min(one.randomised for one in tables)
        counted = f"n = {few} episodes a policy, the first inference of each"
    file = csv_link(f"trust-{target}-{measure.name}.csv", measures_csv(tables, target, measure))
    commands = "".join(f"<li><code>{html.escape(one.command)}</code></li>" for one in tables)
    return (
        f"<p>{counted}; better maps lie {measure.better}. The line is what a map that knows "
        "nothing has, or the rule's limit.</p>"
        f"<details><summary>The commands</summary><ul>{commands}</ul></details><p>{file}</p>"
    )


def _made(table: TrustTable, target: str) -> str:
    return (
        f"<p>First inferences of {table.episodes} episodes of {html.escape(table.name)}, policy "
        f"<code>{table.digest}</code>. The CSV has the later inferences and all intervals, too.</p>"
        f"<p>{csv_link(f'trust-{table.name}-{target}.csv', shares_csv(table, target))}</p>"
    )
