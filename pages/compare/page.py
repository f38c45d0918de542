"""The Compare page: two to four agents or conditions on the same scenes; the answer first."""

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import gradio as gr

from pages import episode_card
from pages.compare import duet
from pages.compare.plots import dumbbell
from pages.csv_link import csv_link
from pages.services import Services
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.pairs import Candidate, Half, Pair, candidates, newest_that_share, pairs
from vlm4vla.errors import UserError
from vlm4vla.eval.compare import ALL, Comparison, compare_several, to_csv
from vlm4vla.eval.tally import condition_text

_FOLDER: Final = Path(__file__).parent

STYLE: Final = _FOLDER / "style.css"

SLOTS: Final = ("a", "b", "c", "d")
"""Names of the sides in the address; the others are compared with the first."""

PER_PAGE: Final = 8
"""Scenes shown at once; each comes with the ways of two grippers."""

CELLS: Final = {
    "only_a": (True, False),
    "only_b": (False, True),
    "neither": (False, False),
    "both": (True, True),
}
"""Who succeeded in the scenes of a cell; the first that is not empty is opened at first."""

_EMPTY: Final = (
    "There is nothing to compare yet: the table of episodes needs two checkpoints, or one under "
    "two conditions, evaluated on the same scenes. Run `vlm4vla eval --checkpoint NAME --tasks "
    "pick --episodes 20` for both."
)


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out: the stored comparison, which only reads, and below it the live one.

    Args:
        page: the `gr.Blocks` of this page.
        services: what it is built from.
    """
    archive = services.archive
    gr.Markdown("# Compare")
    said = gr.HTML("<p>Looking …</p>", elem_id="compare-answer")
    with gr.Row(elem_classes="compare-pickers"):
        sides = gr.Dropdown(
            [],
            label="Compare the first with the others",
            multiselect=True,
            max_choices=len(SLOTS),
            elem_id="compare-sides",
            scale=3,
        )
        task = gr.Dropdown([], label="Task", elem_id="compare-task", scale=1)
    against = gr.Radio([], label="Shown below: A and", visible=False, elem_id="compare-with")
    plot = gr.Plot(visible=False, show_label=False, elem_id="compare-plot")
    table = gr.HTML("", elem_id="compare-csv")
    scenes = gr.HTML(
        None,
        html_template=(_FOLDER / "compare.html").read_text("utf-8"),
        js_on_load=episode_card.SCRIPT + (_FOLDER / "compare.js").read_text("utf-8"),
        apply_default_css=False,
        elem_id="compare",
        elem_classes="compare",
    )
    duet.build(page, services)
    outputs = [said, sides, task, against, plot, table, scenes]

    def first_sight(request: gr.Request) -> list[Any]:
        return answer(archive, {k: str(v) for k, v in request.query_params.items()})

    def hear(event: gr.SelectData) -> list[Any]:
        asked = _plain(event.value)
        *others, scenes = answer(archive, asked)
        return [*others, scenes | {"turn": asked.get("turn", "")}]

    def choose(keys: list[str] | None, which: str | None, other: str | None) -> list[Any]:
        asked = dict(zip(SLOTS, keys or [], strict=False))
        return answer(archive, {**asked, "task": which or "", "with": other or ""})

    private: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    page.load(first_sight, outputs=outputs, **private)
    scenes.select(hear, outputs=outputs, trigger_mode="multiple", **private)
    gr.on(
        [sides.input, task.input, against.input],
        choose,
        [sides, task, against],
        outputs,
        trigger_mode="always_last",
        **private,
    )


def answer(archive: Archive, asked: Mapping[str, str]) -> list[Any]:
    """Updates of the page's seven parts for an address.

    Args:
        archive: whose episodes.
        asked: parameters by name: `a` to `d`, `task`, `with`, `cell`, `page`, `scene`. Where no
            side is named, the newest two that share a scene are chosen, and of the others what is
            usual; sides that are unknown are left out.
    """
    try:
        known = {one.side.key: one for one in candidates(archive.table)}
        return _answer(archive, known, asked)
    except UserError as error:
        return _nothing(str(error), {}, [])


def _answer(
    archive: Archive, known: Mapping[str, Candidate], asked: Mapping[str, str]
) -> list[Any]:
    keys = dict.fromkeys(key for slot in SLOTS if (key := asked.get(slot, "")) in known)
    chosen = [known[key] for key in keys]
    default = newest_that_share(archive.table, list(known.values()))
    if not any(asked.get(slot) for slot in SLOTS) and default:
        chosen = list(default)
    menu = [(name_of(one), key) for key, one in known.items()]
    address = {slot: one.side.key for slot, one in zip(SLOTS, chosen, strict=False)}
    if default is None:
        return _nothing(_EMPTY, address, menu)
    if len(chosen) < 2:
        return _nothing("Choose a second side to compare with.", address, menu)
    names = [name_of(one) for one in chosen]
    first = chosen[0]
    several = [pairs(archive.table, first.side, one.side) for one in chosen[1:]]
    compared = compare_several(several)
    others = dict(zip(SLOTS[1:], range(len(several)), strict=False))
    other = asked.get("with", "")
    index = others.get(other, 0)
    rows, found = compared[index], several[index]
    slot = SLOTS[1 + index]
    tasks = sorted({pair.task for pair in found})
    which = asked.get("task", "")
    which = which if which in tasks else ALL
    address |= {"task": which if which != ALL else "", "with": slot if len(several) > 1 else ""}
    menus = [
        gr.update(choices=menu, value=[one.side.key for one in chosen]),
        gr.Dropdown([("all tasks", ALL), *((one, one) for one in tasks)], value=which),
        gr.Radio(
            [(f"{name.upper()}: {names[1 + i]}", name) for name, i in others.items()],
            value=slot,
            visible=len(several) > 1,
        ),
    ]
    said = _said(names, compared, index, which)
    if not found:
        message = f"{names[0]} and {names[1 + index]} were never given the same scene and goal."
        return [said, *menus, gr.Plot(visible=False), "", {"address": address, "problem": message}]
    b = names[1 + index]
    return [
        said,
        *menus,
        gr.Plot(dumbbell(rows, names[0], b), visible=True),
        csv_link("compare.csv", to_csv(rows, names[0], b)),
        _scenes(archive, [p for p in found if which in (ALL, p.task)], address, asked),
    ]


def name_of(one: Candidate) -> str:
    """What a side is called."""
    return f"{one.name or one.side.agent[:8]}, {condition_text(one.side.condition)}"


def _said(names: list[str], compared: list[list[Comparison]], index: int, which: str) -> str:
    """The answer as sentences: the pair that is shown large, the others below it."""
    shown, others = "", ""
    for place, rows in enumerate(compared):
        row = next((one for one in rows if one.task == which), rows[-1] if rows else None)
        b = chr(ord("B") + place)
        who = f"A: {names[0]}. {b}: {names[1 + place]}."
        sentence = sentence_of(row, "A", b) if row else "They share no scene."
        if place == index:
            shown = f'<p class="ca">{html.escape(sentence)}</p>'
            shown += f'<p class="ca-more">{html.escape(who)}</p>'
        else:
            told = html.escape(f"{sentence} {b}: {names[1 + place]}.")
            others += f'<p class="ca-more">{told}</p>'
    return shown + others


_DOES: Final = {
    "reach": "reaches",
    "pick": "lifts",
    "push": "pushes right",
    "place": "places right",
    "stack": "stacks",
}


def sentence_of(row: Comparison, a: str, b: str) -> str:
    """The comparison as the page says it: who does better, by how much, and whether that is told.

    Args:
        row: the comparison.
        a: what the first side is called.
        b: what the second side is called.
    """
    difference, low, high = (100 * value for value in row.paired)
    better, worse = (a, b) if difference >= 0 else (b, a)
    if difference < 0:
        difference, low, high = -difference, -high, -low
    does = _DOES.get(row.task, "succeeds")
    counts = f"{a} in {row.a.successes} and {b} in {row.b.successes} of {row.a.n} shared scenes"
    said = (
        f"{better} {does} more often than {worse}: {difference:+.1f} points "
        f"(95 % {low:+.1f} to {high:+.1f}), {counts}."
    )
    if row.told:
        return f"{said} Told apart: p = {row.adjusted:.2g}."
    if row.more is None:
        return (
            f"No difference was seen: {counts} (difference 95 % {low:+.1f} to {high:+.1f} points)."
        )
    if row.more == 0:
        return f"{said} Not distinguishable once corrected for the number of comparisons."
    return f"{said} Not yet distinguishable; about {row.more} more scenes would be."


def _nothing(message: str, address: Mapping[str, str], menu: list[tuple[str, str]]) -> list[Any]:
    return [
        "",
        gr.update(choices=menu, value=list(address.values())),
        gr.Dropdown([("all tasks", ALL)], value=ALL),
        gr.Radio([], visible=False),
        gr.Plot(visible=False),
        "",
        {"address": dict(address), "problem": message},
    ]


def _scenes(
    archive: Archive, found: list[Pair], address: Mapping[str, str], asked: Mapping[str, str]
) -> dict[str, Any]:
    cells = {
        name: [one for one in found if (one.a.success, one.b.success) == who]
        for name, who in CELLS.items()
    }
    cell = asked.get("cell", "")
    if cell not in cells:
        cell = next(name for name, some in cells.items() if some)
    some = cells[cell]
    pages = max(1, -(-len(some) // PER_PAGE))
    wanted = asked.get("page", "")
    number = min(pages, max(1, int(wanted))) if wanted.isascii() and wanted.isdigit() else 1
    scene = asked.get("scene", "")
    place = next((i for i, one in enumerate(some) if _key(one) == scene), None)
    if place is not None:
        number = place // PER_PAGE + 1
    return {
        "address": {
            **address,
            "cell": cell,
            "page": str(number) if number > 1 else "",
            "scene": scene if place is not None else "",
        },
        "problem": "",
        "cells": {name: len(members) for name, members in cells.items()},
        "cell": cell,
        "total": len(some),
        "page": number,
        "pages": pages,
        "scenes": [
            {
                "key": _key(one),
                "task": one.task,
                "seed": one.seed,
                "a": _half(archive, one.a),
                "b": _half(archive, one.b),
            }
            for one in some[(number - 1) * PER_PAGE : number * PER_PAGE]
        ],
    }


def _key(pair: Pair) -> str:
    return f"{pair.task}-{pair.seed}-{pair.a.id[:6]}"


def _half(archive: Archive, half: Half) -> dict[str, Any]:
    row = archive.table.row(half.id)
    try:
        sketch = episode_card.sketch(archive.table.get(half.id))
    except UserError:
        sketch = None  # its arrays are damaged
    return {
        "id": half.id,
        "success": half.success,
        "outcome": row.outcome.kind,
        "sentence": row.outcome.sentence,
        "steps": row.steps,
        "instruction": row.spec.instruction,
        "film": f"/films/{half.id}.mp4" if archive.films.path(half.id) else "",
        "sketch": sketch,
    }


def _plain(value: Any) -> dict[str, str]:
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
