"""The table of episodes: one row an episode, whoever acted and whichever door it came through."""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla import paths, seeds
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import (
    AgentId,
    AgentSpan,
    Episode,
    EpisodeSpec,
    Event,
    Outcome,
    Times,
    Trace,
)
from vlm4vla.episodes.arrays import NO_ARRAYS, pack, unpack
from vlm4vla.episodes.database import Database
from vlm4vla.episodes.filters import (
    EVERYTHING,
    ORDERS,
    Cursor,
    Filter,
    Kind,
    Membership,
    Order,
    condition_key,
    kinds_of,
    mask_of,
    to_text,
)
from vlm4vla.episodes.log import Log
from vlm4vla.episodes.plain import (
    agents_from_json,
    agents_to_json,
    episode_to_json,
    times_to_json,
)
from vlm4vla.errors import UserError

FILE: Final = "episodes.sqlite"

_STOPPED: Final = "stopped"
"""`Outcome.kind` of an episode that a person ended: it says nothing about the agent."""

_MOST_VALUES: Final = 500
"""Values in one statement."""


class Entry(NamedTuple):
    """An episode with what the table knows about it besides.

    Attributes:
        episode: what happened.
        memberships: where it belongs.
        legacy_id: the id that an earlier version knew it by, for links that were passed on.
        created: seconds since the epoch; 0 for the episode's own beginning, else now.
    """

    episode: Episode
    memberships: tuple[Membership, ...] = ()
    legacy_id: str = ""
    created: float = 0.0


class Label(NamedTuple):
    """A person's label of an episode, beside the automatic outcome."""

    label: str
    who: str
    note: str = ""
    created: float = 0.0


@dataclass(frozen=True)
class Row:
    """An episode without its arrays; see `vlm4vla.core.episode.Episode`.

    Attributes:
        id: see `Episode.id`.
        legacy_id: see `Entry`.
        request_id: see `Episode.request_id`.
        spec: what was asked for.
        agents: who acted.
        outcome: how it ended.
        steps: control steps that were carried out.
        events: what happened.
        times: where the time went.
        source: the door that it came through.
        versions: of everything that changes results.
        reading: how the instruction was understood.
        created: seconds since the epoch.
        kinds: what it belongs to.
        current: whether it is the newest episode of its request that came to its end.
    """

    id: str
    legacy_id: str
    request_id: str
    spec: EpisodeSpec
    agents: tuple[AgentSpan, ...]
    outcome: Outcome
    steps: int
    events: tuple[Event, ...]
    times: Times
    source: str
    versions: Mapping[str, str]
    reading: Mapping[str, Any]
    created: float
    kinds: tuple[Kind, ...]
    current: bool

    @property
    def agent(self) -> AgentId:
        """Who acted first."""
        return self.agents[0].agent

    @property
    def goal_task(self) -> str:
        """The task that was carried out."""
        return str(self.spec.goal.get("task", self.spec.task))

    def cursor(self, order: Order = "newest") -> Cursor:
        """Where the next page of `EpisodeTable.query` begins if this row ends one."""
        return Cursor(self.steps if ORDERS[order][0] == "steps" else self.created, self.id)


class EpisodeTable:
    """The table of episodes. Making one opens nothing, and a table that is absent reads as empty.

    May be shared by threads; several processes may open the same folder.

    Args:
        folder: where its file is; None for the local folder's `table`.
        log: also append here what no run would bring back; None for the data folder's own if
            `folder` is None, else for no log.
    """

    def __init__(self, folder: Path | None = None, *, log: Path | None = None) -> None:
        if folder is None:
            log = log or paths.home() / "episodes.jsonl"
        self.database = Database((folder or paths.local() / "table") / FILE)
        self.log = Log(log) if log else None

    @classmethod
    def in_memory(cls) -> "EpisodeTable":
        """A table that ends with this object."""
        table = cls(Path())
        table.database = Database(None)
        return table

    def put(
        self,
        episode: Episode,
        memberships: Sequence[Membership] = (),
        *,
        legacy_id: str = "",
        created: float = 0.0,
    ) -> str:
        """Keeps an episode and returns its id; see `put_all`."""
        self.put_all([Entry(episode, tuple(memberships), legacy_id, created)])
        return episode.id

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Keeps episodes in one transaction.

        One with the same id is replaced and keeps its memberships, labels and legacy id. An
        episode that a person stopped replaces none that came to its end.

        Raises:
            UserError: the disk is full or not writable; none of them is kept then, and nothing
                that was written before is lost.
        """
        with self.database.writing() as db:
            for entry in entries:
                created = entry.created or entry.episode.times.began or time.time()
                if _put(db, entry._replace(created=created)) and entry.episode.source == "live":
                    self._append(
                        "episode",
                        episode=episode_to_json(entry.episode),
                        memberships=[list(one) for one in entry.memberships],
                        legacy_id=entry.legacy_id,
                        created=created,
                    )

    def get(self, key: str) -> Episode:
        """The whole episode of an id or of a legacy id.

        Raises:
            UserError: there is none, or its arrays are damaged.
        """
        with self.database.reading() as db:
            found = self._found(db, key)
            blob = db.execute("SELECT content FROM arrays WHERE row = ?", (found["row"],))
            content = blob.fetchone()
        try:
            arrays = unpack(content[0]) if content else NO_ARRAYS
        except ValueError as error:
            raise UserError(
                f"The arrays of episode {found['id']} are damaged: {error}.", "Run it again."
            ) from error
        row = _row(found)
        return Episode(
            spec=row.spec,
            agents=row.agents,
            outcome=row.outcome,
            steps=row.steps,
            events=row.events,
            actions=arrays.actions,
            predictions=arrays.predictions,
            trace=arrays.trace,
            times=row.times,
            source=row.source,
            versions=row.versions,
            reading=row.reading,
        )

    def row(self, key: str) -> Row:
        """The row of an id or of a legacy id.

        Raises:
            UserError: there is none.
        """
        with self.database.reading() as db:
            return _row(self._found(db, key))

    def query(
        self,
        wanted: Filter = EVERYTHING,
        *,
        order: Order = "newest",
        limit: int = 100,
        after: Cursor | None = None,
    ) -> list[Row]:
        """A page of rows.

        Args:
            wanted: which.
            order: by what.
            limit: at most so many.
            after: the cursor of the last row of the page before.
        """
        where, values = wanted.sql()
        column, direction = ORDERS[order]
        if after is not None:
            where += f" AND ({column}, id) {'<' if direction == 'DESC' else '>'} (?, ?)"
            values += after
        with self.database.reading() as db:
            found = db.execute(
                f"SELECT * FROM episodes WHERE {where} "
                f"ORDER BY {column} {direction}, id {direction} LIMIT ?",
                [*values, limit],
            ).fetchall()
        return [_row(one) for one in found]

    def count(self, wanted: Filter = EVERYTHING) -> int:
        """How many episodes there are."""
        where, values = wanted.sql()
        with self.database.reading() as db:
            return int(
                db.execute(f"SELECT count(*) FROM episodes WHERE {where}", values).fetchone()[0]
            )

    def missing(
        self,
        specs: Iterable[EpisodeSpec],
        agents: tuple[AgentSpan, ...],
        versions: Mapping[str, str],
    ) -> list[EpisodeSpec]:
        """The specifications of which the table has no finished episode, each once, in order.

        Args:
            specs: what is asked for; the same one twice counts once.
            agents: who would act.
            versions: of everything that would change the result.
        """
        wanted = {episode_id(spec, agents, versions): spec for spec in specs}
        ids = list(wanted)
        with self.database.reading() as db:
            for start in range(0, len(ids), _MOST_VALUES):
                some = ids[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(some))
                for (known,) in db.execute(
                    f"SELECT id FROM episodes WHERE id IN ({marks}) AND outcome <> ?",
                    [*some, _STOPPED],
                ):
                    del wanted[known]
        return list(wanted.values())

    def memberships(self, key: str) -> list[Membership]:
        """Where an episode belongs.

        Raises:
            UserError: there is no such episode.
        """
        with self.database.reading() as db:
            row = self._found(db, key)["row"]
            found = db.execute(
                "SELECT kind, name FROM memberships WHERE row = ? ORDER BY kind, name", (row,)
            ).fetchall()
        return [Membership(*one) for one in found]

    def join(self, key: str, *memberships: Membership) -> None:
        """Adds memberships to a stored episode.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        with self.database.writing() as db:
            found = self._found(db, key)
            _join(db, found["row"], memberships)
            self._append("joined", id=found["id"], memberships=[list(one) for one in memberships])

    def drop(self, key: str) -> None:
        """Deletes an episode with its memberships and labels.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        with self.database.writing() as db:
            found = self._found(db, key)
            db.execute("DELETE FROM episodes WHERE row = ?", (found["row"],))
            _settle(db, found["request_id"])
            self._append("dropped", id=found["id"])

    def label(
        self, key: str, label: str, who: str, note: str = "", *, created: float = 0.0
    ) -> None:
        """Adds a person's label beside the automatic outcome; their last one counts.

        Raises:
            UserError: there is no such episode, or see `put_all`.
        """
        created = created or time.time()
        with self.database.writing() as db:
            found = self._found(db, key)
            db.execute(
                "INSERT INTO labels (row, label, who, note, created) VALUES (?, ?, ?, ?, ?)",
                (found["row"], label, who, note, created),
            )
            self._append("label", id=found["id"], label=label, who=who, note=note, created=created)

    def labels(self, key: str, *, all_of_them: bool = False) -> list[Label]:
        """The labels of an episode, oldest first: the last of every person, or all of them.

        Raises:
            UserError: there is no such episode.
        """
        with self.database.reading() as db:
            row = self._found(db, key)["row"]
            found = db.execute(
                "SELECT label, who, note, created FROM labels WHERE row = ? ORDER BY number", (row,)
            ).fetchall()
        labels = [Label(*one) for one in found]
        if all_of_them:
            return labels
        last = {one.who: place for place, one in enumerate(labels)}
        return [labels[place] for place in sorted(last.values())]

    def close(self) -> None:
        """Closes the connections; a later use opens new ones."""
        self.database.close()

    def _found(self, db: sqlite3.Connection, key: str) -> sqlite3.Row:
        found = db.execute("SELECT * FROM episodes WHERE id = ?", (key,)).fetchone()
        if found is None and key:
            # Earlier ids left the condition out, so several episodes may share one.
            found = db.execute(
                "SELECT * FROM episodes WHERE legacy_id = ? ORDER BY created DESC LIMIT 1", (key,)
            ).fetchone()
        if found is None:
            raise UserError(
                "There is no such stored episode.", "It may have been dropped: run it again."
            )
        return found

    def _append(self, what: str, **line: Any) -> None:
        # Within the transaction: its lock keeps two processes' lines apart.
        if self.log:
            self.log.append(what, line)


def episode_id(
    spec: EpisodeSpec, agents: tuple[AgentSpan, ...], versions: Mapping[str, str]
) -> str:
    """The id that an episode will have; see `Episode.id`."""
    nothing = Outcome("", "")
    empty = NO_ARRAYS.actions
    return Episode(spec, agents, nothing, 0, (), empty, (), Trace.empty(), Times(), "", versions).id


_COLUMNS: Final = (
    "id",
    "legacy_id",
    "request_id",
    "suite",
    "task",
    "goal_task",
    "seed",
    "split",
    "instruction",
    "goal",
    "condition",
    "words",
    "agent",
    "agent_kind",
    "agents",
    "outcome",
    "success",
    "sentence",
    "steps",
    "events",
    "measures",
    "wrong_object",
    "old_goal_done",
    "reading",
    "reading_kind",
    "source",
    "parent",
    "branch_step",
    "created",
    "times",
    "versions",
    "belongs",
    "current",
    "single",
)

_KEPT: Final = {
    "id": "excluded.id",
    "legacy_id": "coalesce(nullif(excluded.legacy_id, ''), legacy_id)",
    "belongs": "belongs | excluded.belongs",
    "current": "current",
}
"""What becomes of a column when its episode is put again; the others are replaced."""

_UPSERT: Final = (
    f"INSERT INTO episodes ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = {_KEPT.get(name, f'excluded.{name}')}" for name in _COLUMNS)
    + f" WHERE excluded.outcome <> '{_STOPPED}' OR outcome = '{_STOPPED}' RETURNING row"
)


def _put(db: sqlite3.Connection, entry: Entry) -> bool:
    """Whether the episode was kept."""
    values = _values(entry)
    written = db.execute(_UPSERT, [values[name] for name in _COLUMNS]).fetchall()
    if not written:
        return False
    row = written[0][0]
    db.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?)", (row, pack(entry.episode)))
    _join(db, row, entry.memberships, known=True)
    _settle(db, values["request_id"])
    return True


def _join(
    db: sqlite3.Connection, row: int, memberships: Sequence[Membership], *, known: bool = False
) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO memberships VALUES (?, ?, ?)",
        [(row, one.kind, one.name) for one in memberships],
    )
    if not known:
        db.execute(
            "UPDATE episodes SET belongs = belongs | ? WHERE row = ?", (mask_of(memberships), row)
        )


def _settle(db: sqlite3.Connection, request_id: str) -> None:
    """Marks the newest finished episode of a request as the one that counts."""
    found = db.execute(
        "SELECT row, current, outcome FROM episodes WHERE request_id = ? "
        "ORDER BY created DESC, row DESC",
        (request_id,),
    ).fetchall()
    newest = next((one["row"] for one in found if one["outcome"] != _STOPPED), None)
    for one in found:
        if one["current"] != (one["row"] == newest):
            db.execute(
                "UPDATE episodes SET current = ? WHERE row = ?",
                (int(one["row"] == newest), one["row"]),
            )


def _values(entry: Entry) -> dict[str, Any]:
    """The columns of a row by name."""
    episode = entry.episode
    spec, outcome = episode.spec, episode.outcome
    return {
        "id": episode.id,
        "legacy_id": entry.legacy_id,
        "request_id": episode.request_id,
        "suite": spec.suite,
        "task": spec.task,
        "goal_task": episode.goal_task,
        "seed": spec.seed,
        "split": seeds.split_of(spec.seed),
        "instruction": spec.instruction,
        "goal": to_text(dict(spec.goal)),
        "condition": condition_key(spec.condition),
        "words": spec.condition.words,
        "agent": episode.agent.digest,
        "agent_kind": episode.agent.kind,
        "agents": to_text(agents_to_json(episode.agents)),
        "outcome": outcome.kind,
        "success": int(outcome.success),
        "sentence": outcome.sentence,
        "steps": episode.steps,
        "events": to_text([list(event) for event in episode.events]),
        "measures": to_text(dict(outcome.measures)),
        "wrong_object": int(bool(outcome.measures.get("wrong_object"))),
        "old_goal_done": int(bool(outcome.measures.get("old_goal_done"))),
        "reading": to_text(dict(episode.reading)),
        "reading_kind": str(episode.reading.get("kind", "")),
        "source": episode.source,
        "parent": spec.parent,
        "branch_step": spec.branch_step,
        "created": entry.created,
        "times": to_text(times_to_json(episode.times)),
        "versions": to_text(dict(episode.versions)),
        "belongs": mask_of(entry.memberships),
        "current": int(outcome.kind != _STOPPED),
        "single": int(len(episode.agents) == 1 and not spec.parent),
    }


def _row(found: sqlite3.Row) -> Row:
    spec = EpisodeSpec(
        suite=found["suite"],
        task=found["task"],
        seed=found["seed"],
        instruction=found["instruction"],
        goal=json.loads(found["goal"]),
        condition=Condition.from_json(json.loads(found["condition"])),
        parent=found["parent"],
        branch_step=found["branch_step"],
    )
    return Row(
        id=found["id"],
        legacy_id=found["legacy_id"],
        request_id=found["request_id"],
        spec=spec,
        agents=agents_from_json(json.loads(found["agents"])),
        outcome=Outcome(found["outcome"], found["sentence"], json.loads(found["measures"])),
        steps=found["steps"],
        events=tuple(Event(step, name) for step, name in json.loads(found["events"])),
        times=Times(**json.loads(found["times"])),
        source=found["source"],
        versions=json.loads(found["versions"]),
        reading=json.loads(found["reading"]),
        created=found["created"],
        kinds=kinds_of(found["belongs"]),
        current=bool(found["current"]),
    )
