"""Failures of a table: every episode gets its automatic label once, and questions are answered."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from vlm4vla.core.episode import Episode
from vlm4vla.episodes.filters import EVERYTHING
from vlm4vla.episodes.labels import (
    RECORDERS,
    SUCCESS,
    UNTOLD,
    AutomaticLabel,
    LabelFilter,
    Place,
    Recorder,
    Region,
    Shown,
    count_unlabelled,
    every,
    keep,
    newest,
    page,
    places,
    recorded_by,
    recorders_of,
    unlabelled,
)
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import RULES, RULES_VERSION, Finding, explain, has_failed
from vlm4vla.eval.tally import ALL, FACETS, KIND, Cell, Tally, Value, condition_text, tally, text_of
from vlm4vla.statistics import Kappa, Rate, cohens_kappa
from vlm4vla.suites.registry import SUITES

OTHER: Final = "other"
"""What a person may say besides the rules' labels."""

PER_PAGE: Final = 24

MOST_NOTE: Final = 500
MOST_NAME: Final = 40
"""Characters of a note, and of the name of who writes it."""


def examine(episode: Episode) -> AutomaticLabel:
    """What is kept of an episode: its label, and where its named object lay."""
    suite = SUITES.get(episode.spec.suite) if episode.spec.suite in SUITES else None
    motion = suite.motion(episode) if suite else None
    failed = has_failed(episode.outcome.kind)
    if motion is None:
        return AutomaticLabel(UNTOLD if failed else SUCCESS, episode.steps, 0, None, None, {})
    x, y = motion.place(motion.named)
    objects = motion.positions.shape[1]
    if not failed:
        return AutomaticLabel(SUCCESS, episode.steps, objects, x, y, {})
    found = explain(episode, motion)
    finding = {
        **_plain(found.finding),
        "later": [{"label": name, **_plain(one)} for name, one in found.later],
    }
    return AutomaticLabel(found.label, found.finding.step, objects, x, y, finding)


def label_missing(
    table: EpisodeTable, report: Callable[[int, int], None] = lambda done, count: None
) -> int:
    """Gives every episode that has none its label; can be stopped at any time and goes on later.

    Args:
        table: of which.
        report: told how many are done, and of how many, after every hundred.

    Returns:
        How many it looked at; what was replaced meanwhile waits for the next time.

    Raises:
        UserError: the disk is full or not writable.
    """
    missing, done = count_missing(table), 0
    if not missing:
        return 0
    for some in unlabelled(table, RULES_VERSION):
        keep(table, RULES_VERSION, [(row, examine(episode)) for row, episode in some])
        done += len(some)
        report(done, max(missing, done))
    return done


def count_missing(table: EpisodeTable) -> int:
    """How many episodes have no automatic label of these rules."""
    return count_unlabelled(table, RULES_VERSION)


@dataclass(frozen=True)
class Query:
    """A question about failures, as an address writes it; "" and () leave a choice open.

    Attributes:
        kind: what recorded the episodes, one of `RECORDERS`; `ALL` for whatever.
        task: tasks.
        label: automatic labels, or `ALL` for successes, too; none for every failure.
        agent: digests, or `ALL`; none for the agent of the newest evaluation.
        condition: conditions as `condition_text` writes them, or `ALL`; none for the newest one.
        objects: numbers of movable objects.
        human: labels of people.
        region: where the named object lay.
        page: from 1 on.
    """

    kind: str = "evaluation"
    task: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    condition: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    human: tuple[str, ...] = ()
    region: Region | None = None
    page: int = 1

    @classmethod
    def from_address(cls, address: Mapping[str, str]) -> "Query":
        """The question of an address's parameters; what makes no sense there is left out."""
        several = {
            name: tuple(filter(None, address.get(name, "").split(_BETWEEN))) for name in FACETS
        }
        several["objects"] = tuple(
            one for one in several["objects"] if one.isdecimal() and len(one) < 3
        )
        kind = address.get("kind", "evaluation")
        number = address.get("page", "1")
        return cls(
            kind=kind if kind in (*RECORDERS, ALL) else "evaluation",
            region=_region(address),
            page=max(1, int(number)) if number.isdecimal() and len(number) < 7 else 1,
            **several,
        )

    def to_address(self) -> dict[str, str]:
        """The parameters of an address that asks this; what is as usual is left out."""
        plain = {name: _BETWEEN.join(getattr(self, name)) for name in FACETS}
        if self.kind != "evaluation":
            plain["kind"] = self.kind
        if self.region:
            plain["x"], plain["y"] = (
                f"{low:g}{_BETWEEN}{high:g}" for low, high in (self.region[:2], self.region[2:])
            )
        if self.page > 1:
            plain["page"] = str(self.page)
        return {name: value for name, value in plain.items() if value}


_BETWEEN: Final = "~"
"""Stands between the values of a parameter: a condition's own text holds commas."""


class Summary(NamedTuple):
    """The answer to a question, without its episodes.

    Attributes:
        query: the question, with the newest evaluation filled in where it was left open.
        wanted: the episodes of the wall.
        everything: the same without the choice of labels, successes included.
        sentence: the answer in words.
        failed: how many failed, of all judged ones that are chosen.
        facets: of `KIND` and each of `FACETS` its values, the most failures first.
        whole: of facets that can be left open, what the choice of `ALL` would hold. Of `KIND` this
            and its values are of every agent and condition where the question leaves these open.
        cells: label by task; a task without a failure has none.
        total: episodes of the wall.
        order: labels, the most frequent first.
        kappa: agreement of the automatic labels with the newest ones of people.
        missing: episodes that have no automatic label yet.
    """

    query: Query
    wanted: LabelFilter
    everything: LabelFilter
    sentence: str
    failed: Rate
    facets: Mapping[str, tuple[Value, ...]]
    whole: Mapping[str, Value]
    cells: tuple[Cell, ...]
    total: int
    order: tuple[str, ...]
    kappa: Kappa
    missing: int


def summarise(table: EpisodeTable, query: Query) -> Summary:
    """Answers a question from the labels that are there."""
    left_open = [name for name in ("agent", "condition") if not getattr(query, name)]
    query = _filled(table, query)
    counted = tally(table, query.region)
    chosen = {name: _chosen(query, name) for name in (KIND, *FACETS)}
    # What the newest evaluation has filled in says nothing about other kinds of episodes.
    aside = {name: left_open if name == KIND else [] for name in chosen}
    facets = {name: tuple(counted.facet(name, chosen, but=aside[name])) for name in chosen}
    facets["agent"] = tuple(counted.named(table, facets["agent"]))
    base = counted.among(chosen, but=("label", "human"))
    ranking, failed = counted.ranking(base), counted.rate(base)
    order = tuple(name for name, _ in ranking)
    everything = LabelFilter(
        replace(
            recorded_by(recorder) if (recorder := _recorder(query.kind)) else EVERYTHING,
            goal_task=chosen["task"] or None,
            agent=chosen["agent"] or None,
        ),
        conditions=_known(key for key, text in counted.texts.items() if text in conditions)
        if (conditions := chosen["condition"])
        else (),
        objects=tuple(map(int, query.objects)),
        region=query.region,
    )
    wanted = replace(
        everything,
        labels=chosen["label"],
        human=chosen["human"],
        failed=None if query.label else True,
    )
    listed = counted.among(chosen)
    return Summary(
        query=query,
        wanted=wanted,
        everything=everything,
        sentence=_sentence(query, failed, ranking),
        failed=failed,
        facets=facets,
        whole={
            name: _whole(counted, name, query, chosen, aside[name])
            for name in (KIND, "label", "agent", "condition")
        },
        cells=tuple(counted.cells(base, order)),
        total=counted.sum(listed) if query.label else counted.rate(listed).successes,
        order=order,
        kappa=cohens_kappa(counted.pairs(base)),
        missing=count_missing(table),
    )


def question_about(table: EpisodeTable, key: str) -> Query:
    """The question whose answer holds an episode: what its agent did under its condition.

    Args:
        table: where it is.
        key: its id.

    Raises:
        UserError: there is no such episode, or it is not counted.
    """
    row = table.row(key)
    recorders = recorders_of(table, row.id)
    query = Query(
        kind=recorders[0] if recorders else ALL,
        agent=(row.agent.digest,),
        condition=(condition_text(row.spec.condition),),
        label=(ALL,) if row.outcome.success else (),
    )
    place = neighbours(table, query, row.id).place
    if not place:
        raise UserError(
            "This run is in no list of failures.",
            "Listed is the newest run of a scene, sentence and agent, if it was judged and had one "
            "agent from beginning to end.",
        )
    return replace(query, page=1 + (place - 1) // PER_PAGE)


def wall(table: EpisodeTable, summary: Summary) -> list[Shown]:
    """The episodes of the question's page, those of the most frequent label first."""
    offset = (summary.query.page - 1) * PER_PAGE
    return page(table, summary.wanted, summary.order, limit=PER_PAGE, offset=offset)


class Neighbours(NamedTuple):
    """What stands before and after an episode among the episodes of a question.

    Attributes:
        query: the question, as `Summary.query`.
        place: the episode's, from 1 on; 0 where it is not among them.
        total: how many there are.
        previous: what stands before it.
        next: what stands after it, the first one where it is not among them.
    """

    query: Query
    place: int
    total: int
    previous: Place | None
    next: Place | None


def neighbours(table: EpisodeTable, query: Query, key: str) -> Neighbours:
    """The neighbours of an episode in the order of `wall`, over all pages.

    Args:
        table: where the episodes are.
        query: the question; its page does not count.
        key: the episode's id.
    """
    found = summarise(table, replace(query, page=1))
    every_place = places(table, found.wanted, found.order)
    at = next((i for i, one in enumerate(every_place) if one.id == key), -1)
    return Neighbours(
        found.query,
        at + 1,
        len(every_place),
        every_place[at - 1] if at > 0 else None,
        every_place[at + 1] if at + 1 < len(every_place) else None,
    )


def say(table: EpisodeTable, key: str, label: str, who: str, note: str = "") -> None:
    """Keeps what a person says of an episode; what was said before stays.

    Args:
        table: where.
        key: the episode's id.
        label: a rule's label, `OTHER`, or "" for a note alone.
        who: the person.
        note: what they add.

    Raises:
        UserError: the label is none of these, nothing is said, something is too long, or see
            `EpisodeTable.label`.
    """
    who, note = " ".join(who.split()), note.strip()
    if label and label not in (*RULES, OTHER):
        raise UserError(f"Unknown label {label!r}; known: {', '.join((*RULES, OTHER))}.")
    if not label and not note:
        raise UserError("Nothing was said.", "Choose a label or write a note.")
    if not 0 < len(who) <= MOST_NAME:
        raise UserError(f"A name has 1 to {MOST_NAME} characters.", "Say who you are.")
    if len(note) > MOST_NOTE:
        raise UserError(f"A note has at most {MOST_NOTE} characters; this has {len(note)}.")
    table.label(key, label, who, note)


COLUMNS: Final = (
    "id",
    "suite",
    "task",
    "seed",
    "agent",
    "agent_name",
    "condition",
    "instruction",
    "object",
    "target",
    "outcome",
    "label",
    "step",
    "sentence",
    "numbers",
    "later",
    "objects",
    "x",
    "y",
    "human",
    "who",
    "notes",
    "created",
)
"""The columns of a download."""


def as_record(one: Shown) -> dict[str, Any]:
    """An episode of a download, by `COLUMNS`; x and y in metres."""
    row, found = one.row, one.automatic
    said = next((label for label in reversed(one.people) if label.label), None)
    return {
        "id": row.id,
        "suite": row.spec.suite,
        "task": row.goal_task,
        "seed": row.spec.seed,
        "agent": row.agent.digest,
        "agent_name": row.agent.name,
        "condition": condition_text(row.spec.condition),
        "instruction": row.spec.instruction,
        "object": row.spec.goal.get("object"),
        "target": row.spec.goal.get("target"),
        "outcome": row.outcome.kind,
        "label": found.label,
        "step": found.step,
        "sentence": found.finding.get("sentence", ""),
        "numbers": found.finding.get("numbers", {}),
        "later": [[other["label"], other["step"]] for other in found.finding.get("later", [])],
        "objects": found.objects,
        "x": found.x,
        "y": found.y,
        "human": said.label if said else "",
        "who": said.who if said else "",
        "notes": [[label.who, label.note] for label in one.people if label.note],
        "created": row.created,
    }


def as_jsonl(table: EpisodeTable, summary: Summary) -> Iterator[str]:
    """The question's episodes, a line of JSON each."""
    for one in every(table, summary.wanted):
        yield json.dumps(as_record(one), ensure_ascii=False) + "\n"


def as_csv(table: EpisodeTable, summary: Summary) -> Iterator[str]:
    """The question's episodes as lines of CSV under their names."""
    yield _csv_line(COLUMNS)
    for one in every(table, summary.wanted):
        yield _csv_line(map(_csv_cell, as_record(one).values()))


def _csv_cell(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    # A spreadsheet would take a sentence that begins so for a formula.
    return f"'{text}" if isinstance(text, str) and text[:1] in "=+-@\t\r" and text else text


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def _plain(finding: Finding) -> dict[str, Any]:
    return {**finding._asdict(), "numbers": dict(finding.numbers)}


def _recorder(name: str) -> Recorder | None:
    return next((one for one in RECORDERS if one == name), None)


def _filled(table: EpisodeTable, query: Query) -> Query:
    """The question with the newest evaluation's agent and condition where it names none."""
    if query.agent and query.condition:
        return query
    recorder = _recorder(query.kind)
    among = recorded_by(recorder) if recorder else EVERYTHING
    if query.agent and query.agent != (ALL,):
        among = replace(among, agent=query.agent)
    found = newest(table, among)
    if found is None:
        return query
    agent, condition = found
    return replace(
        query, agent=query.agent or (agent,), condition=query.condition or (text_of(condition),)
    )


def _whole(
    counted: Tally,
    name: str,
    query: Query,
    chosen: Mapping[str, tuple[str, ...]],
    aside: Sequence[str],
) -> Value:
    rate = counted.rate(counted.among(chosen, but=[name, *aside]))
    asked = ALL in (query.kind if name == KIND else getattr(query, name))
    return Value(ALL, ALL, rate.successes, rate.n, asked)


def _known(conditions: Iterable[str]) -> tuple[str, ...]:
    """Some conditions, or one that no episode has where there is none."""
    return tuple(conditions) or ("",)


def _chosen(query: Query, name: str) -> tuple[str, ...]:
    found = getattr(query, name)
    values: tuple[str, ...] = (found,) if isinstance(found, str) else found
    return () if ALL in values else values


def _sentence(query: Query, failed: Rate, ranking: Sequence[tuple[str, int]]) -> str:
    where = ", ".join(_chosen(query, "task")) or "All tasks"
    if not failed.n:
        return f"{where}: no judged episode."
    share = f"{100 * failed.low:.0f} to {100 * failed.high:.0f} %"
    what = ", ".join(f"{n:,} {name}" for name, n in ranking)
    told = f" {what}." if what else ""
    return f"{where}: {failed.successes:,} of {failed.n:,} failed (95 % {share}).{told}"


def _region(address: Mapping[str, str]) -> Region | None:
    try:
        ends = [float(end) for name in "xy" for end in address.get(name, "").split(_BETWEEN)]
        x0, x1, y0, y1 = ends
    except ValueError:
        return None
    if not all(abs(end) < 100 for end in ends):
        return None
    return Region(min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1))
