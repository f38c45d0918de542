"""Which episodes: memberships, filters and pages, and their SQL."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from vlm4vla.core.condition import Condition

Kind = Literal["evaluation", "selection", "live", "collection", "recording", "study", "imported"]

KINDS: Final[tuple[Kind, ...]] = (
    "evaluation",
    "selection",
    "live",
    "collection",
    "recording",
    "study",
    "imported",
)
"""What an episode can belong to. An "imported" one is from before this table and has lost its
condition: it can be looked at and is never counted."""

BITS: Final[dict[Kind, int]] = {kind: 1 << place for place, kind in enumerate(KINDS)}

DRAWN: Final = BITS["evaluation"] | BITS["selection"] | BITS["collection"] | BITS["study"]
"""Memberships of which any says that the scene was drawn, not picked by a person."""

Order = Literal["newest", "oldest", "longest", "shortest"]

ORDERS: Final[dict[Order, tuple[str, str]]] = {
    "newest": ("created", "DESC"),
    "oldest": ("created", "ASC"),
    "longest": ("steps", "DESC"),
    "shortest": ("steps", "ASC"),
}

Values = str | tuple[str, ...] | None
"""One value, any of several, or None for whatever there is."""


class Membership(NamedTuple):
    """Where an episode belongs: a kind, and which one of that kind ("" where there is but one)."""

    kind: Kind
    name: str = ""


@dataclass(frozen=True)
class Filter:
    """A filter of episodes; what is left out allows everything.

    Attributes:
        agent: digest of the agent that acted first.
        agent_kind: "policy" or "expert".
        suite: the benchmark suite.
        task: what the scene was drawn for.
        goal_task: the task that was carried out.
        condition: exactly this condition.
        words: which sentences; see `Condition.words`.
        split: of the seed; see `vlm4vla.seeds.split_of`.
        outcome: how it ended; see `Outcome.kind`.
        success: whether the goal was reached.
        kind: what it belongs to.
        name: which one of that kind.
        besides: none that is of that kind under this name alone.
        reading_kind: how the instruction was understood.
        source: the door that it came through.
        request_id: what was asked and of whom; see `Episode.request_id`.
        current: only the episode of every request that counts; see `Row`.
        text: letters in the instruction or in the outcome's sentence.
    """

    agent: Values = None
    agent_kind: Values = None
    suite: Values = None
    task: Values = None
    goal_task: Values = None
    condition: Condition | None = None
    words: Values = None
    split: Values = None
    outcome: Values = None
    success: bool | None = None
    kind: Kind | None = None
    name: str | None = None
    besides: str | None = None
    reading_kind: Values = None
    source: Values = None
    request_id: Values = None
    current: bool = False
    text: str = ""

    def sql(self) -> tuple[str, list[Any]]:
        """The expression after WHERE, and its parameters."""
        parts, values = ["TRUE"], list[Any]()
        for column in _PLAIN:
            if (wanted := getattr(self, column)) is not None:
                several = (wanted,) if isinstance(wanted, str) else wanted
                # "=" and not IN for a single one: only then an index gives rows in order.
                marks = ", ".join("?" * len(several))
                parts.append(f"{column} = ?" if len(several) == 1 else f"{column} IN ({marks})")
                values += several
        if self.condition is not None:
            parts.append("condition = ?")
            values.append(condition_key(self.condition))
        if self.success is not None:
            parts.append("success = ?")
            values.append(int(self.success))
        if self.name is not None:
            kinds = (self.kind,) if self.kind else KINDS
            marks = ", ".join("?" * len(kinds))
            parts.append(
                f"row IN (SELECT row FROM memberships WHERE kind IN ({marks}) AND name = ?)"
            )
            values += [*kinds, self.name]
        elif self.kind is not None and self.besides is not None:
            # One by one: a list of all of them would be made for every question.
            parts.append(
                "belongs & ? <> 0 AND EXISTS (SELECT 1 FROM memberships AS other WHERE "
                "other.row = episodes.row AND other.kind = ? AND other.name <> ?)"
            )
            values += [BITS[self.kind], self.kind, self.besides]
        elif self.kind is not None:
            parts.append("belongs & ? <> 0")
            values.append(BITS[self.kind])
        if self.current:
            parts.append("current = 1")
        if self.text:
            escaped = "".join(f"\\{c}" if c in "%_\\" else c for c in self.text)
            parts.append("(instruction LIKE ? ESCAPE '\\' OR sentence LIKE ? ESCAPE '\\')")
            values += [f"%{escaped}%"] * 2
        return " AND ".join(parts), values


EVERYTHING: Final = Filter()

_PLAIN: Final = (
    "agent",
    "agent_kind",
    "suite",
    "task",
    "goal_task",
    "words",
    "split",
    "outcome",
    "reading_kind",
    "source",
    "request_id",
)


def to_text(value: Any) -> str:
    """Canonical JSON: the same text for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def condition_key(condition: Condition) -> str:
    """The text that stands for a condition in the table."""
    return to_text(condition.to_json())


def mask_of(memberships: Iterable[Membership]) -> int:
    """The bits of some memberships' kinds."""
    mask = 0
    for one in memberships:
        mask |= BITS[one.kind]
    return mask


def kinds_of(mask: int) -> tuple[Kind, ...]:
    """The kinds of some bits."""
    return tuple(kind for kind, bit in BITS.items() if mask & bit)
