"""Brings in the folders that earlier versions wrote: `episodes/` of the app, `evaluations/`.

The only place that still reads goals and conditions from text.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

from vlm4vla import seeds
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Times,
)
from vlm4vla.episodes.arrays import NO_ARRAYS
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Kind, Membership
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.suite import KNOWN, NAME, TRAINED, TabletopSuite

LOST: Final = "lost"
"""`Condition.words` of an episode whose condition nobody wrote down."""

_ID: Final = re.compile(r"[0-9a-f]{16}")
_UNKNOWN_SENTENCE: Final = "unknown sentence"
_CAPPED: Final = re.compile(r"at most (\d{1,3}) steps")
_EXECUTED: Final = re.compile(r"(\d{1,2}) actions? a look")

_DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What reading a file that is none of ours, or half of one, may raise."""


def import_legacy(home: Path, table: EpisodeTable, films: Films) -> int:
    """Brings in what an earlier version left in a data folder, once; how many episodes came.

    The old folders stay as they are. A file that is damaged is left out.

    Args:
        home: the data folder.
        table: where they go; what it holds already stays.
        films: where their films go.

    Raises:
        UserError: the disk is full or not writable.
    """
    if not (home / "episodes").is_dir() and not (home / "evaluations").is_dir():
        return 0
    mark = f"folder {home.resolve()}"
    if table.imported(mark):
        return 0
    came = 0
    for plan in _plans(home / "evaluations"):
        try:
            entries = _trials(plan.parent)
        except UserError:
            continue  # damaged
        came += table.put_new(entries)
    came += import_store(home / "episodes", table, films)
    table.mark_imported(mark, str(home))
    return came


def import_evaluation(folder: Path, table: EpisodeTable) -> int:
    """Brings in the rows of an evaluation's folder; how many the table did not hold.

    Args:
        folder: with `evaluation.json` and `episodes.jsonl`; its name becomes the evaluation's.
        table: where they go.

    Raises:
        UserError: the folder is none of an evaluation, or see `EpisodeTable.put_all`.
    """
    return table.put_new(_trials(folder))


def _trials(folder: Path) -> list[Entry]:
    """The rows of an evaluation's folder; one that is damaged is left out."""
    try:
        agent = str(json.loads((folder / "evaluation.json").read_text("utf-8"))["checkpoint"])
        lines = (folder / "episodes.jsonl").read_bytes().splitlines()
    except _DAMAGE as error:
        raise UserError(
            f"{folder} holds no evaluation that can be read: {error}.",
            "Name another folder, or copy its evaluation.json and episodes.jsonl again.",
        ) from error
    created = (folder / "episodes.jsonl").stat().st_mtime
    entries = []
    for line in lines:
        try:
            entries.append(_storable(_trial(json.loads(line), agent, folder.name, created)))
        except _DAMAGE:
            continue  # such as one that was cut off by a crash
    return entries


def import_store(folder: Path, table: EpisodeTable, films: Films, *, kind: Kind = "live") -> int:
    """Brings in the app's stored episodes with their films; how many the table did not hold.

    Those that belonged to an evaluation have lost its condition there. Where `import_evaluation`
    brought the same episode in, that one gets the film; the others become "imported".

    Args:
        folder: with one folder an episode.
        table: where they go.
        films: where their films go.
        kind: what those belong to that belong to no evaluation.

    Raises:
        UserError: see `EpisodeTable.put_all`.
    """
    came = 0
    for file in sorted(folder.glob("*/episode.json"), key=lambda one: one.stat().st_mtime):
        if not _ID.fullmatch(file.parent.name):
            continue
        try:
            evaluated = (file.parent / "evaluated").exists()
            row = json.loads(file.read_text("utf-8"))
            entry = _storable(_record(row, file, evaluated, kind))
        except _DAMAGE:
            continue  # damaged
        key = _twin(table, entry) if evaluated else ""
        if not key:
            came += table.put_new([entry])
            key = entry.episode.id
        film = file.with_name("view.mp4")
        if film.is_file() and not films.path(key):
            films.link(key, film, pinned=(file.parent / "pinned").exists())
    return came


def goal_from_text(text: str) -> dict[str, Any]:
    """The goal of a tabletop specification from "task: object -> target".

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\w+): (.+?)(?: -> (.+))?", text)
    if not found:
        raise ValueError(f"no goal: {text!r}")
    return {"task": found[1], "object": found[2], "target": found[3]}


def condition_from_text(text: str) -> Condition:
    """The condition of a live episode from its old words, such as "at most 40 steps".

    Raises:
        ValueError: it holds anything else.
    """
    steps = replan = 0
    for part in filter(None, text.split(", ")):
        if capped := _CAPPED.fullmatch(part):
            steps = int(capped[1])
        elif executed := _EXECUTED.fullmatch(part):
            replan = int(executed[1])
        elif part != _UNKNOWN_SENTENCE:
            raise ValueError(f"no condition: {part!r}")
    return Condition(words=GIVEN, max_steps=steps, replan_every=replan)


def _plans(folder: Path) -> list[Path]:
    return [
        plan
        for plan in sorted(folder.glob("*/evaluation.json"))
        if plan.with_name("episodes.jsonl").is_file()
    ]


def _twin(table: EpisodeTable, entry: Entry) -> str:
    """The id of the same episode as an evaluation's folder told it, or ""."""
    episode = entry.episode
    for key in table.keys_of_legacy(entry.legacy_id):
        row = table.row(key)
        same = (row.spec.goal, row.events, row.steps) == (
            episode.spec.goal,
            episode.events,
            episode.steps,
        )
        if same and {"evaluation", "selection"} & set(row.kinds):
            return key
    return ""


def _trial(row: dict[str, Any], agent: str, name: str, created: float) -> Entry:
    spec = EpisodeSpec(
        suite=NAME,
        task=str(row["task"]),
        seed=int(row["seed"]),
        instruction=str(row["instruction"]),
        goal=goal_from_text(row["goal"]),
        condition=Condition(
            words=KNOWN if row["held_out"] else TRAINED,
            goal="alternate" if row["alternate"] else "first",
        ),
    )
    events = _events(row["events"])
    outcome = TabletopSuite().tell(spec, events, int(row["steps"]))
    if row["alternate"]:
        measures = {**outcome.measures, "old_goal_done": bool(row["old_goal_done"])}
        outcome = Outcome(outcome.kind, outcome.sentence, measures)
    times = Times(created, float(row["driver_ms"]), float(row["physics_ms"]))
    kind: Kind = "selection" if seeds.split_of(spec.seed) == "select" else "evaluation"
    episode = _episode(spec, agent, outcome, int(row["steps"]), events, times, "evaluation")
    asked = [agent, spec.task, spec.seed, spec.instruction, ""]
    legacy_id = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    return Entry(episode, (Membership(kind, name),), legacy_id, created)


def _record(row: dict[str, Any], file: Path, evaluated: bool, kind: Kind) -> Entry:
    membership, text = Membership("imported" if evaluated else kind), str(row["condition"])
    try:
        condition = Condition(words=LOST) if evaluated else condition_from_text(text)
    except ValueError:
        condition, membership = Condition(words=LOST), Membership("imported")
    spec = EpisodeSpec(
        suite=NAME,
        task=str(row["task"]),
        seed=int(row["seed"]),
        instruction=str(row["instruction"]),
        goal=goal_from_text(row["goal"]),
        condition=condition,
    )
    events = _events(row["happenings"])
    wrong = any(event.name == "wrong_object" for event in events)
    outcome = Outcome(str(row["outcome"]), str(row["sentence"]), {"wrong_object": wrong})
    created = file.stat().st_mtime
    episode = _episode(
        spec,
        str(row["driver"]),
        outcome,
        int(row["steps"]),
        events,
        Times(created),
        "evaluation" if evaluated else "live",
        {"kind": "unknown" if _UNKNOWN_SENTENCE in text else "known"},
    )
    return Entry(episode, (membership,), file.parent.name, created)


def _storable(entry: Entry) -> Entry:
    """The same entry, if a table can hold its numbers and texts.

    Raises:
        ValueError: a number is too large, or a text is none.
    """
    episode = entry.episode
    numbers = (episode.spec.seed, episode.steps, *(event.step for event in episode.events))
    if not all(-(2**63) <= number < 2**63 for number in numbers):
        raise ValueError("a number has more than 64 bits")
    for text in (episode.id, entry.legacy_id, episode.outcome.kind, episode.outcome.sentence):
        text.encode()
    return entry


def _events(pairs: list[list[Any]]) -> tuple[Event, ...]:
    return tuple(Event(int(step), str(name)) for step, name in pairs)


def _episode(
    spec: EpisodeSpec,
    agent: str,
    outcome: Outcome,
    steps: int,
    events: tuple[Event, ...],
    times: Times,
    source: str,
    reading: dict[str, str] | None = None,
) -> Episode:
    return Episode(
        spec=spec,
        agents=(AgentSpan(AgentId("expert" if agent == "expert" else "policy", agent)),),
        outcome=outcome,
        steps=steps,
        events=events,
        actions=NO_ARRAYS.actions,
        predictions=NO_ARRAYS.predictions,
        trace=NO_ARRAYS.trace,
        times=times,
        source=source,
        versions={},
        reading=reading or {},
    )
