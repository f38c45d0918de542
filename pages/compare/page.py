"""The Compare page: two to four agents or conditions on the same scenes; the answer first."""

import html
import json
from collections import Counter
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
    shown = gr.State(None)
    duet.build(page, services)
    outputs = [said, sides, task, against, plot, table, scenes]

    def first_sight(request: gr.Request) -> list[Any]:
        parts = answer(archive, {k: str(v) for k, v in request.query_params.items()})
        return [*parts, parts[-1]["address"]]

    def hear(keys: Any, which: Any, other: Any, event: gr.SelectData) -> list[Any]:
        pressed = _plain(event.value)
        # The menus may say more than the answer that was pressed on.
        told = answer(archive, {**pressed, **_menus(keys, which, other)})[-1]
        return [told | {"turn": pressed.get("turn", "")}, told["address"]]

    def choose(keys: Any, which: Any, other: Any, before: Mapping[str, str] | None) -> Any:
        asked, before = _menus(keys, which, other), before or {}
        # A menu that was only left is called input by Gradio, too.
        if all(before.get(name, "") == value for name, value in asked.items()):
            return gr.skip()
        parts = answer(archive, {**asked, "cell": before.get("cell", "")})
        # Said again, a choice would undo the one that was made meanwhile.
        for part, sent in zip(parts[1:4], (keys, which, other), strict=True):
            if part["value"] == sent:
                del part["value"]
        return [*parts, parts[-1]["address"]]

    private: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    # A server that was started again knows no choice of the menus.
    unchecked: dict[str, Any] = {"preprocess": False, **private}
    page.load(first_sight, outputs=[*outputs, shown], **private)
    scenes.select(
        hear, [sides, task, against], [scenes, shown], trigger_mode="multiple", **unchecked
    )
    gr.on(
        [sides.input, task.input, against.input],
        choose,
        [sides, task, against, shown],
        [*outputs, shown],
        trigger_mode="always_last",
        **unchecked,
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
    called = _names(known)
    menu = [(called[key], key) for key in known]
    address = {slot: one.side.key for slot, one in zip(SLOTS, chosen, strict=False)}
    if default is None:
        return _nothing(_EMPTY, address, menu, empty=True)
    if len(chosen) < 2:
        return _nothing("Choose a second side to compare with.", address, menu)
    names = [called[one.side.key] for one in chosen]
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
        gr.update(choices=[("all tasks", ALL), *((one, one) for one in tasks)], value=which),
        gr.update(
            choices=[(f"{name.upper()}: {names[1 + i]}", name) for name, i in others.items()],
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


def _menus(keys: Any, which: Any, other: Any) -> dict[str, str]:
    """What the menus show as parameters of the address, "" where they choose nothing."""
    sides = keys if isinstance(keys, list) else []
    chosen = {slot: str(key) for slot, key in zip(SLOTS, sides, strict=False)}
    return {
        **dict.fromkeys(SLOTS, ""),
        **chosen,
        "task": str(which) if which and which != ALL else "",
        "with": str(other) if other and len(chosen) > 2 else "",
    }


def _names(known: Mapping[str, Candidate]) -> dict[str, str]:
    """What sides are called by key; policies of one name with the beginning of their digest."""
    alike = Counter(name for name, _ in {(one.name, one.side.agent) for one in known.values()})
    called = {}
    for key, one in known.items():
        who = one.name or one.side.agent[:8]
        if one.name and alike[one.name] > 1:
            who = f"{who} ({one.side.agent[:6]})"
        called[key] = f"{who}, {condition_text(one.side.condition)}"
    return called


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
    return f"{said} Not yet distinguishable; about {row.more} more scenes would be."


def _nothing(
    message: str, address: Mapping[str, str], menu: list[tuple[str, str]], *, empty: bool = False
) -> list[Any]:
    return [
        "",
        gr.update(choices=menu, value=list(address.values())),
        gr.update(choices=[("all tasks", ALL)], value=ALL),
        gr.update(choices=[], value=None, visible=False),
        gr.Plot(visible=False),
        "",
        {"address": dict(address), "problem": message, "empty": empty},
    ]


def _scenes(
    archive: Archive, found: list[Pair], address: Mapping[str, str], asked: Mapping[str, str]
) -> dict[str, Any]:
    cells = {
        name: [one for one in found if (one.a.success, one.b.success) == who]
        for name, who in CELLS.items()
    }
    cell = asked.get("cell", "")
    if not cells.get(cell):
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
