"""Automatic labels kept beside episodes, and what people said: counted, paged, and compared."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from vlm4vla.core.episode import Episode
from vlm4vla.episodes.filters import BITS, EVERYTHING, KINDS, Filter, Kind
from vlm4vla.episodes.plain import agents_from_json
from vlm4vla.episodes.rows import STOPPED, Label, Row, episode_of, row_of
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

SUCCESS: Final = "success"
"""Stands for the automatic label of an episode that did not fail."""

UNTOLD: Final = "not explained"
"""That of a failed one whose row does not tell what moved."""

UNLABELLED: Final = "not labelled"
"""Stands for the label of a person where nobody gave one."""

_JUDGED: Final = (
    f"current = 1 AND single = 1 AND belongs & {BITS['imported']} = 0 "
    f"AND outcome NOT IN ('{STOPPED}', 'not judged')"
)
"""What is counted: the newest judged episode of every request; see `rates`."""

ABLATION: Final = "ablation"
"""The study that perturbed episodes belong to; beside kinds of membership, a kind of its own."""

Recorder = Kind | Literal["ablation"]

RECORDERS: Final[tuple[Recorder, ...]] = (*(one for one in KINDS if one != "imported"), ABLATION)
"""What labelled episodes can have been recorded by. A "study" is any that is no ablation."""

_ABLATION_BIT: Final = 1 << len(KINDS)

_RECORDED: Final = f"(belongs & ~{BITS['study']}) " + " ".join(
    f"| {bit} * EXISTS (SELECT 1 FROM memberships AS study WHERE study.row = episodes.row "
    f"AND study.kind = 'study' AND study.name {sign} '{ABLATION}')"
    for bit, sign in ((BITS["study"], "<>"), (_ABLATION_BIT, "="))
)
"""Bits of what an episode was recorded by."""

# The newest is not ranked by a window: that took a page of 100,000 episodes ten times as long.
_KNOWN: Final = (
    "episodes JOIN automatic_labels USING (row) LEFT JOIN (SELECT row, label AS human FROM labels "
    "WHERE label <> '' AND NOT EXISTS (SELECT 1 FROM labels AS later WHERE later.row = labels.row "
    "AND later.label <> '' AND (later.created, later.number) > (labels.created, labels.number))) "
    "USING (row)"
)
"""Episodes that have an automatic label, with the newest label of a person."""

_WHOLE: Final = "episodes LEFT JOIN arrays USING (row)"
"""Episodes with their arrays, in one statement: both are of one moment."""


class AutomaticLabel(NamedTuple):
    """An automatic label as it is kept.

    Attributes:
        label: the label, `SUCCESS` or `UNTOLD`.
        step: the control step that it belongs to.
        objects: how many movable objects there were; 0 where that is not known.
        x: where the named object lay at the start, metres; None where that is not known.
        y: the same.
        finding: what was measured, plain values.
    """

    label: str
    step: int
    objects: int
    x: float | None
    y: float | None
    finding: Mapping[str, Any]


class Region(NamedTuple):
    """A rectangle of the table in which the named object lay at the start, metres."""

    x0: float
    x1: float
    y0: float
    y1: float


@dataclass(frozen=True)
class LabelFilter:
    """A filter of labelled episodes; what is left out allows everything.

    Attributes:
        episodes: which episodes.
        conditions: any of these conditions, as `condition_key` writes them.
        labels: any of these automatic labels.
        objects: any of these numbers of movable objects.
        human: any of these as the newest label of a person.
        region: where the named object lay.
        failed: whether the goal was missed.
    """

    episodes: Filter = EVERYTHING
    conditions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    objects: tuple[int, ...] = ()
    human: tuple[str, ...] = ()
    region: Region | None = None
    failed: bool | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """The expression after WHERE, and its parameters."""
        where, values = self.episodes.sql()
        parts = [_JUDGED, where]
        for column, wanted in (
            ("condition", self.conditions),
            ("automatic", self.labels),
            ("objects", self.objects),
            (f"coalesce(human, '{UNLABELLED}')", self.human),
        ):
            if wanted:
                parts.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        if self.region is not None:
            parts.append("x BETWEEN ? AND ? AND y BETWEEN ? AND ?")
            values += self.region
        if self.failed is not None:
            parts.append("success = ?")
            values.append(int(not self.failed))
        return " AND ".join(parts), values


class Count(NamedTuple):
    """How many judged episodes are alike in everything that stands beside it."""

    agent: str
    suite: str
    task: str
    condition: str
    label: str
    objects: int
    human: str
    recorded: tuple[Recorder, ...]
    n: int


class Shown(NamedTuple):
    """An episode with its labels.

    Attributes:
        row: all but its arrays.
        automatic: its automatic label.
        people: every label and note of people, oldest first.
    """

    row: Row
    automatic: AutomaticLabel
    people: tuple[Label, ...]


class Dot(NamedTuple):
    """Where the named object of an episode lay, metres."""

    id: str
    label: str
    x: float
    y: float


class Looked(NamedTuple):
    """What was looked at: a row, and a mark of what it held, good in this process alone."""

    row: int
    mark: int


def unlabelled(
    table: EpisodeTable, rules: int, *, limit: int = 100
) -> Iterator[list[tuple[Looked, Episode]]]:
    """Episodes without a label of these rules, newest first, in pages.

    One whose arrays are damaged comes without them.

    Args:
        table: where they are.
        rules: the rules' version.
        limit: episodes of a page.
    """
    before = None
    while True:
        with table.database.reading() as db:
            found = db.execute(
                f"SELECT episodes.*, content FROM {_WHOLE} WHERE row < ? AND NOT EXISTS "
                "(SELECT 1 FROM automatic_labels WHERE row = episodes.row AND rules = ?) "
                "ORDER BY row DESC LIMIT ?",
                (before if before is not None else 2**62, rules, limit),
            ).fetchall()
        if not found:
            return
        yield [(Looked(one["row"], _mark(one)), _readable(one)) for one in found]
        before = found[-1]["row"]


def count_unlabelled(table: EpisodeTable, rules: int) -> int:
    """How many episodes have no label of these rules."""
    with table.database.reading() as db:
        every = db.execute("SELECT count(*) FROM episodes").fetchone()[0]
        known = db.execute("SELECT count(*) FROM automatic_labels WHERE rules = ?", (rules,))
        return int(every) - int(known.fetchone()[0])


def keep(table: EpisodeTable, rules: int, labels: Iterable[tuple[Looked, AutomaticLabel]]) -> None:
    """Keeps automatic labels beside their episodes; those of other rules are replaced.

    An episode that was replaced or dropped since it was looked at gets none.

    Args:
        table: where.
        rules: the rules' version.
        labels: what was looked at, as `unlabelled` gives it, and labels.

    Raises:
        UserError: the disk is full or not writable.
    """
    with table.database.writing() as db:
        for (row, mark), one in labels:
            now = db.execute(f"SELECT * FROM {_WHOLE} WHERE row = ?", (row,)).fetchone()
            if now is None or _mark(now) != mark:
                continue
            db.execute(
                "INSERT OR REPLACE INTO automatic_labels VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row, rules, one.label, one.step, one.objects, one.x, one.y),
            )
            content = json.dumps(dict(one.finding), ensure_ascii=False)
            db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?)", (row, content))


def recorded_by(recorder: Recorder) -> Filter:
    """The episodes that something has recorded."""
    if recorder == ABLATION:
        return Filter(kind="study", name=ABLATION)
    return Filter(kind=recorder, besides=ABLATION if recorder == "study" else None)


def recorders_of(table: EpisodeTable, key: str) -> tuple[Recorder, ...]:
    """What has recorded an episode.

    Raises:
        UserError: there is no such episode.
    """
    known = table.row(key)
    with table.database.reading() as db:
        mask = db.execute(f"SELECT {_RECORDED} FROM episodes WHERE id = ?", (known.id,)).fetchone()
        return _recorders(mask[0])


def changes(table: EpisodeTable) -> int:
    """A number that is another one after every change of what `counts` counts."""
    with table.database.reading() as db:
        return int(db.execute("SELECT number FROM label_changes").fetchone()[0])


def counts(table: EpisodeTable, wanted: LabelFilter = LabelFilter()) -> list[Count]:
    """Every number of judged and labelled episodes, never summed over what `Count` names."""
    where, values = wanted.sql()
    columns = (
        "agent, suite, goal_task, condition, automatic, objects, "
        f"coalesce(human, '{UNLABELLED}'), {_RECORDED}"
    )
    with table.database.reading() as db:
        found = db.execute(
            f"SELECT {columns}, count(*) FROM {_KNOWN} WHERE {where} GROUP BY {columns}", values
        ).fetchall()
    names = {mask: _recorders(mask) for mask in {one[-2] for one in found}}
    return [Count._make([*one[:-2], names[one[-2]], one[-1]]) for one in found]


def page(
    table: EpisodeTable,
    wanted: LabelFilter,
    order: Sequence[str] = (),
    *,
    limit: int = 24,
    offset: int = 0,
) -> list[Shown]:
    """A page of labelled episodes, the newest first within a label.

    Args:
        table: where they are.
        wanted: which.
        order: labels in the order that they come in; others follow.
        limit: at most so many.
        offset: how many come before.
    """
    listed, values = _listed("row", wanted, order)
    with table.database.reading() as db:
        rows = db.execute(f"{listed} LIMIT ? OFFSET ?", [*values, limit, offset]).fetchall()
        return [found for one in rows if (found := _shown(db, one["row"]))]


class Place(NamedTuple):
    """An episode of a list: its id, and the control step that its automatic label belongs to."""

    id: str
    step: int


def places(table: EpisodeTable, wanted: LabelFilter, order: Sequence[str] = ()) -> list[Place]:
    """All labelled episodes in the order of `page`, without what is in them."""
    listed, values = _listed("id, automatic_labels.step", wanted, order)
    with table.database.reading() as db:
        return [Place(*one) for one in db.execute(listed, values)]


def every(table: EpisodeTable, wanted: LabelFilter) -> Iterator[Shown]:
    """Labelled episodes, the newest first, read as they are taken.

    One that is replaced or dropped meanwhile is left out.
    """
    where, values = wanted.sql()
    with table.database.reading() as db:
        rows = [
            one["row"]
            for one in db.execute(
                f"SELECT row FROM {_KNOWN} WHERE {where} ORDER BY row DESC", values
            )
        ]
    for offset in range(0, len(rows), 100):
        with table.database.reading() as db:
            some = [_shown(db, row) for row in rows[offset : offset + 100]]
        yield from (one for one in some if one)


def shown(table: EpisodeTable, key: str) -> Shown | None:
    """One episode with its labels, by id; None where the rules have not looked at it yet.

    Raises:
        UserError: there is no such episode.
    """
    known = table.row(key)
    with table.database.reading() as db:
        row = db.execute("SELECT row FROM episodes WHERE id = ?", (known.id,)).fetchone()["row"]
        return _shown(db, row)


def dots(table: EpisodeTable, wanted: LabelFilter, limit: int) -> list[Dot]:
    """Where the named objects of the newest labelled episodes lay.

    Args:
        table: where they are.
        wanted: which.
        limit: at most so many.
    """
    where, values = wanted.sql()
    with table.database.reading() as db:
        found = db.execute(
            f"SELECT id, automatic, x, y FROM {_KNOWN} WHERE {where} AND x IS NOT NULL "
            "ORDER BY row DESC LIMIT ?",
            [*values, limit],
        ).fetchall()
    return [Dot(*one) for one in found]


def density(
    table: EpisodeTable, wanted: LabelFilter, cell: float
) -> list[tuple[float, float, int]]:
    """How many named objects lay where.

    Args:
        table: where the episodes are.
        wanted: which.
        cell: side of the squares that are counted, metres.

    Returns:
        The centre of every square that is not empty, x and y in metres, and its count.
    """
    where, values = wanted.sql()
    # Shifted, since SQLite cuts towards zero: squares on both sides of it would be one.
    column, line = (f"CAST(({axis} + 10) / {cell} AS INTEGER)" for axis in "xy")
    with table.database.reading() as db:
        found = db.execute(
            f"SELECT {column}, {line}, count(*) FROM {_KNOWN} WHERE {where} AND x IS NOT NULL "
            f"GROUP BY {column}, {line}",
            values,
        ).fetchall()
    return [((i + 0.5) * cell - 10, (j + 0.5) * cell - 10, n) for i, j, n in found]


def newest(table: EpisodeTable, wanted: Filter = EVERYTHING) -> tuple[str, str] | None:
    """Agent and condition of the newest judged episode; None where there is none.

    Args:
        table: where the episodes are.
        wanted: among which.

    Returns:
        The agent's digest, and the condition as `condition_key` writes it.
    """
    where, values = wanted.sql()
    with table.database.reading() as db:
        found = db.execute(
            f"SELECT agent, condition FROM episodes WHERE {_JUDGED} AND {where} "
            "ORDER BY created DESC, id DESC LIMIT 1",
            values,
        ).fetchone()
    return (found["agent"], found["condition"]) if found else None


def agent_names(table: EpisodeTable, digests: Iterable[str]) -> dict[str, str]:
    """What agents of some digests are called; "" where an episode tells no name."""
    found = {}
    with table.database.reading() as db:
        for digest in digests:
            one = db.execute(
                "SELECT agents FROM episodes WHERE agent = ? LIMIT 1", (digest,)
            ).fetchone()
            found[digest] = agents_from_json(json.loads(one["agents"]))[0].agent.name if one else ""
    return found


def _recorders(mask: int) -> tuple[Recorder, ...]:
    bits = {name: 1 << place for place, name in enumerate((*KINDS, ABLATION))}
    return tuple(name for name in RECORDERS if mask & bits[name])


def _listed(column: str, wanted: LabelFilter, order: Sequence[str]) -> tuple[str, list[Any]]:
    """The query for a column of labelled episodes in their order, and its parameters."""
    where, values = wanted.sql()
    rank = " ".join("WHEN ? THEN ?" for _ in order)
    ranked = f"CASE automatic {rank} ELSE {len(order)} END, " if order else ""
    ranks = [part for place, name in enumerate(order) for part in (name, place)]
    query = f"SELECT {column} FROM {_KNOWN} WHERE {where} ORDER BY {ranked}row DESC"
    return query, [*values, *ranks]


def _mark(found: sqlite3.Row) -> int:
    """Another number when what the rules read of a row is another."""
    return hash(tuple(found[name] for name in ("id", "outcome", "steps", "events", "content")))


def _readable(found: sqlite3.Row) -> Episode:
    try:
        return episode_of(row_of(found), found["content"])
    except UserError:
        return episode_of(row_of(found), None)


def _shown(db: sqlite3.Connection, row: int) -> Shown | None:
    """An episode with its labels; None where there is none, or no automatic label yet."""
    found = db.execute("SELECT * FROM episodes WHERE row = ?", (row,)).fetchone()
    kept = db.execute(
        "SELECT automatic, step, objects, x, y, content FROM automatic_labels "
        "JOIN findings USING (row) WHERE row = ?",
        (row,),
    ).fetchone()
    people = db.execute(
        "SELECT label, who, note, created FROM labels WHERE row = ? ORDER BY created, number",
        (row,),
    )
    if found is None or kept is None:
        return None
    name, step, objects, x, y, content = kept
    automatic = AutomaticLabel(name, step, objects, x, y, json.loads(content))
    return Shown(row_of(found), automatic, tuple(Label(*one) for one in people))
