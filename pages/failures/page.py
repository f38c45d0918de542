"""The Failures page: every failed episode with its automatic label, counted, mapped and shown."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gradio as gr

from pages import clips, episode_card
from pages.compare.duet import scene_address
from pages.services import Services
from vlm4vla.ablation.parts import PARTS
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.episode import Episode
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.labels import Shown, density, dots
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import RULES
from vlm4vla.eval.label_check import SHIPPED, read_check
from vlm4vla.eval.labelling import (
    OTHER,
    PER_PAGE,
    Query,
    Summary,
    count_missing,
    label_missing,
    question_about,
    say,
    summarise,
    wall,
)
from vlm4vla.statistics import wilson
from vlm4vla.suites.tabletop.motion import TABLE
from vlm4vla.suites.tabletop.suite import NAME

_FOLDER: Final = Path(__file__).parent

_SCRIPTS: Final = (_FOLDER / "clips.js", _FOLDER / "failures.js")

STYLE: Final = _FOLDER / "style.css"

MOST_DOTS: Final = 1_500
"""Failures that the map shows one by one; of more it shows the newest."""

CELL: Final = 0.02
"""Side of the squares in which the map counts successes, metres."""

FEW: Final = 100
"""So many episodes are given their labels while the visitor waits; more are in the background."""

TITLES: Final = {
    "kind": "Recorded by",
    "task": "Task",
    "label": "What went wrong first",
    "condition": "Sentences and changes",
    "agent": "Checkpoint",
    "objects": "Objects on the table",
    "human": "Said by people",
}

KINDS: Final = {
    "evaluation": "evaluations",
    "selection": "the choice of checkpoints",
    "live": "a visitor, live",
    "collection": "collecting data",
    "recording": "recording",
    "study": "studies of training",
    "ablation": "ablations",
}
"""What `Query.kind` is for people."""

EVERY: Final = {
    "kind": "everything recorded",
    "label": "failures and successes",
    "agent": "every checkpoint",
    "condition": "every condition",
}
"""What the choice of `ALL` is for people."""


def build(page: gr.Blocks, services: Services) -> None:
    """Lays the page out.

    Args:
        page: the `gr.Blocks` of this page.
        services: what it is built from.
    """
    handlers = Handlers(services, clips.serve(page, services))
    view = gr.HTML(
        None,
        html_template=(_FOLDER / "failures.html").read_text("utf-8"),
        js_on_load=episode_card.SCRIPT + "".join(script.read_text("utf-8") for script in _SCRIPTS),
        apply_default_css=False,
        elem_id="failures",
        elem_classes="failures",
    )
    private: dict[str, Any] = {
        "outputs": view,
        "show_progress": "hidden",
        "concurrency_limit": None,
        "api_visibility": "private",
    }
    page.load(handlers.first_sight, **private)
    view.select(handlers.hear, trigger_mode="multiple", **private)


class Handlers:
    """What happens on the page.

    Args:
        services: whose episodes, and who could act in their scenes.
        drawable: whether clips can be drawn.
    """

    def __init__(self, services: Services, drawable: Callable[[], bool]) -> None:
        self._archive = services.archive
        self._catalogue = services.catalogue
        self._drawable = drawable
        self._labelling = threading.Lock()

    def first_sight(self, request: gr.Request) -> str:
        """The page was opened."""
        address = {name: str(value) for name, value in request.query_params.items()}
        return json.dumps(self._answer(address))

    def hear(self, event: gr.SelectData) -> str:
        """Something was chosen, or said.

        Args:
            event: its value is JSON of the page: `address`, `turn`, and perhaps `say`.
        """
        asked = _plain(event.value)
        told = self._say(asked["say"]) if isinstance(asked.get("say"), dict) else {}
        address = asked.get("address")
        plain = {str(k): str(v) for k, v in address.items()} if isinstance(address, dict) else {}
        return json.dumps(self._answer(plain) | {"turn": asked.get("turn", 0)} | told)

    def _say(self, said: Mapping[str, Any]) -> dict[str, str]:
        parts = [str(said.get(name, "")) for name in ("id", "label", "who", "note")]
        try:
            say(self._archive.table, *parts)
        except UserError as error:
            return {"told": str(error)}
        return {"told": "Kept.", "said": parts[0]}

    def _answer(self, address: Mapping[str, str]) -> dict[str, Any]:
        table, about = self._archive.table, dict[str, str]()
        try:
            waits = self._label()
            query = Query.from_address(address)
            if run := address.get("run", ""):
                try:
                    query, about = question_about(table, run), {"run": run}
                except UserError as error:
                    about = {"told": str(error)}
            names = policies(self._catalogue)
            told = answer(self._archive, query, names) | {"waits": waits}
        except UserError as error:
            return {"problem": str(error), "turn": 0}
        if waits and not told["bars"]:
            told["sentence"] = "The episodes are being looked at …"
        return told | about | {"clips": self._drawable()}

    def _label(self) -> bool:
        """Gives labels to what has none; whether some still wait."""
        table = self._archive.table
        missing = count_missing(table)
        if not missing:
            return False
        if missing <= FEW:
            label_missing(table)
            return False
        if self._labelling.acquire(blocking=False):
            threading.Thread(target=self._label_all, name="label-failures", daemon=True).start()
        return True

    def _label_all(self) -> None:
        try:
            label_missing(self._archive.table)
        finally:
            self._labelling.release()


def policies(catalogue: AgentCatalogue) -> list[str]:
    """Names of the policies that can act here."""
    return [name for name in catalogue.names() if name != EXPERT.name]


def answer(archive: Archive, query: Query, names: Sequence[str] = ()) -> dict[str, Any]:
    """What the browser is sent for a question.

    Args:
        archive: whose episodes.
        query: the question.
        names: of the policies that could act in their scenes.
    """
    table = archive.table
    found = summarise(table, query)
    last = max(1, -(-found.total // PER_PAGE))
    if found.query.page > last:
        found = summarise(table, replace(query, page=last))
    return {
        "turn": 0,
        "asked": query.to_address(),
        "address": found.query.to_address(),
        "sentence": found.sentence,
        "about": _about(found),
        "facets": [_facet(found, name) for name in TITLES],
        "bars": _bars(found),
        "map": _map(table, found),
        "cards": [_card(archive, one, names) for one in wall(table, found)],
        "total": found.total,
        "page": found.query.page,
        "pages": last,
        "kappa": _kappa(found),
        "check": check_of(SHIPPED),
        "labels": [*RULES, OTHER],
        "rules": {name: RULES.get(name).words for name in RULES},
        "missing": found.missing,
        "empty": not table.count(),
    }


def _card(archive: Archive, one: Shown, names: Sequence[str]) -> dict[str, Any]:
    episode: Episode | None
    try:
        episode = archive.table.get(one.row.id)
    except UserError:
        episode = None  # its arrays are damaged, or it was just dropped
    film = archive.films.path(one.row.id) is not None
    shown = episode_card.card(one, episode, film=film)
    drawn = clips.clip_of(one) if shown["sketch"] else None
    return shown | {"clip": drawn, "other": _other(one, names)}


def _other(one: Shown, names: Sequence[str]) -> str:
    """The address where another backbone can do the same; "" where none can."""
    spec = one.row.spec
    changed = any(change.name in PARTS for change in spec.condition.perturbations)
    mine = one.row.agent.name if one.row.agent.name in names else ""
    others = [name for name in names if name != mine]
    if spec.suite != NAME or changed or not others:
        return ""
    first = mine or others.pop(0)
    return scene_address(first, others[0], spec) if others else ""


def _facet(found: Summary, name: str) -> dict[str, Any]:
    values = list(found.facets[name])
    if name == "kind":
        values = [one._replace(text=KINDS[one.value]) for one in values]
    if name in found.whole and (values or name == "kind"):
        values.insert(0, found.whole[name]._replace(text=EVERY[name]))
    return {
        "name": name,
        "title": TITLES[name],
        "values": [one._asdict() for one in values],
    }


def _bars(found: Summary) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for task, label, rate in found.cells:
        row = rows.setdefault(task, {"task": task, "n": rate.n, "parts": []})
        if rate.successes:
            row["parts"].append(
                {"label": label, "k": rate.successes, "low": rate.low, "high": rate.high}
            )
    return sorted(rows.values(), key=lambda row: -sum(part["k"] for part in row["parts"]))


def _map(table: EpisodeTable, found: Summary) -> dict[str, Any]:
    failures = dots(table, found.wanted, MOST_DOTS)
    successes = density(table, replace(found.everything, failed=False), CELL)
    (x0, x1), (y0, y1) = TABLE
    return {
        "box": [round(1e3 * part) for part in (y0, x0, y1 - y0, x1 - x0)],
        "cell": round(1e3 * CELL),
        "dots": [[round(1e3 * d.y), round(1e3 * d.x), d.label, d.id] for d in failures],
        "successes": [[round(1e3 * y), round(1e3 * x), n] for x, y, n in successes],
        "most": MOST_DOTS,
        "region": list(found.query.region) if found.query.region else None,
    }


def _kappa(found: Summary) -> str:
    kappa = found.kappa
    if not kappa.n:
        return (
            "Nobody has labelled these yet, so how well the rules agree with people is not "
            "measured: choose a label beside the automatic one."
        )
    same = f"People and rules say the same of {kappa.agreed} of {kappa.n} episodes"
    if kappa.kappa is None:
        return f"{same}; Cohen's kappa is not defined where only one label is used."
    return (
        f"{same}: Cohen's kappa {kappa.kappa:.2f} (95 % {kappa.low:.2f} to {kappa.high:.2f}). "
        "Who labels here sees the automatic label."
    )


def check_of(path: Path) -> dict[str, Any]:
    """What is told of the blind check of the rules.

    Args:
        path: where it is kept.

    Returns:
        `said`, a sentence, `command`, which makes the check, and `rows`: of each automatic label
        how many films it was given, for how many the person said the same, and what was said of
        the others.
    """
    try:
        check = read_check(path)
    except UserError as error:
        return {"said": str(error), "command": "", "rows": []}
    if check is None:
        return {
            "said": "Nobody who had seen neither rules nor labels has labelled films yet.",
            "command": "vlm4vla failures --agent all --condition all --sheets FOLDER",
            "rows": [],
        }
    kappa, same = check.kappa, wilson(check.kappa.agreed, check.kappa.n)
    worth = (
        "Cohen's kappa is not defined, where only one label is used"
        if kappa.kappa is None
        else f"Cohen's kappa {kappa.kappa:.2f} (95 % {kappa.low:.2f} to {kappa.high:.2f})"
    )
    said = (
        f"Blind check: of {check.drawn_from} failures, {same.n} were labelled from their pictures "
        f"without sight of rules and labels, by {check.who}. The same label in {same.successes} of "
        f"{same.n} (95 % {100 * same.low:.0f} to {100 * same.high:.0f} %): {worth}. "
        f"{check.date}."
    )
    if check.outdated:
        said += " The rules have changed since."
    rows: dict[str, list[Any]] = {}
    for automatic, person, n in check.confusion():
        row = rows.setdefault(automatic, [automatic, 0, 0, []])
        row[1] += n
        if person == automatic:
            row[2] = n
        else:
            row[3].append(f"{n} {person}")
    return {
        "said": said,
        "command": check.command,
        "rows": [[*row, ", ".join(others)] for *row, others in rows.values()],
    }


def _about(found: Summary) -> str:
    kind = KINDS.get(found.query.kind, EVERY["kind"])
    chosen = [
        ", ".join(one.text for one in found.facets[name] if one.chosen) or EVERY[name]
        for name in ("agent", "condition")
    ]
    return "; ".join([kind[0].upper() + kind[1:], *chosen])


def _plain(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
