"""Tallies of labelled episodes: counted once, then asked by facet without reading the table."""

import json
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.condition import Condition
from vlm4vla.episodes.database import Database
from vlm4vla.episodes.labels import (
    SUCCESS,
    UNLABELLED,
    Count,
    LabelFilter,
    Region,
    agent_names,
    changes,
    counts,
)
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.statistics import Rate, wilson

FACETS: Final = ("task", "label", "condition", "agent", "objects", "human")
"""What can be chosen among, several values of each."""

KIND: Final = "kind"
"""What episodes were recorded by; of these one is chosen, and an episode may have several."""

ALL: Final = "all"
"""Every value of a facet."""


class Value(NamedTuple):
    """A value of a facet.

    Attributes:
        value: as an address writes it.
        text: for people.
        failed: failed episodes that have it, under what is chosen in the other facets.
        n: judged episodes that have it.
        chosen: whether the question asks for it.
    """

    value: str
    text: str
    failed: int
    n: int
    chosen: bool


class Cell(NamedTuple):
    """How many episodes of a task failed in one way, of all of that task."""

    task: str
    label: str
    rate: Rate


Mask = NDArray[np.bool_]


class Tally:
    """Numbers of episodes by everything that can be chosen among.

    Args:
        found: the numbers.
        texts: what conditions are for people and addresses, by `Count.condition`.
    """

    def __init__(self, found: Sequence[Count], texts: Mapping[str, str]) -> None:
        self.texts = dict(texts)
        self._n = np.array([one.n for one in found], np.int64)
        self._missed = np.array([one.label != SUCCESS for one in found], np.bool_)
        self._values: dict[str, list[str]] = {}
        self._codes: dict[str, NDArray[np.int64]] = {}
        for name in FACETS:
            written = [str(getattr(one, name)) for one in found]
            if name == "condition":
                written = [self.texts[one] for one in written]
            known = {value: code for code, value in enumerate(dict.fromkeys(written))}
            self._values[name] = list(known)
            self._codes[name] = np.array([known[value] for value in written], np.int64)
        kinds = dict.fromkeys(kind for one in found for kind in one.recorded)
        self._kinds: dict[str, Mask] = {
            kind: np.array([kind in one.recorded for one in found], np.bool_) for kind in kinds
        }
        self._names: dict[str, str] = {}

    def among(self, chosen: Mapping[str, Sequence[str]], *, but: Iterable[str] = ()) -> Mask:
        """Which numbers are of chosen episodes.

        Args:
            chosen: values by facet; none of a facet for all of it.
            but: facets whose choice does not count.
        """
        mask = np.ones(len(self._n), np.bool_)
        for name, values in chosen.items():
            if not values or name in but:
                continue
            if name == KIND:
                none = np.zeros(len(self._n), np.bool_)
                mask &= np.logical_or.reduce([self._kinds.get(one, none) for one in values])
            else:
                codes = [code for code, v in enumerate(self._values[name]) if v in values]
                mask &= np.isin(self._codes[name], codes)
        return mask

    def sum(self, mask: Mask) -> int:
        """How many episodes those are."""
        return int(self._n[mask].sum())

    def rate(self, mask: Mask) -> Rate:
        """How many of those failed."""
        return wilson(self.sum(mask & self._missed), self.sum(mask))

    def ranking(self, mask: Mask) -> list[tuple[str, int]]:
        """Labels of those that failed and how often each was given, the most frequent first."""
        found = self._by("label", mask & self._missed)
        return sorted(found.items(), key=lambda one: -one[1])

    def facet(
        self, name: str, chosen: Mapping[str, Sequence[str]], *, but: Iterable[str] = ()
    ) -> list[Value]:
        """The values of a facet under what is chosen in the others, the most failures first.

        Args:
            name: which facet.
            chosen: see `among`.
            but: further facets whose choice does not count.
        """
        mask = self.among(chosen, but=[name, *but])
        if name == KIND:
            n = {kind: self.sum(mask & there) for kind, there in self._kinds.items()}
            n = {kind: count for kind, count in n.items() if count}
            failed = {kind: self.sum(mask & self._kinds[kind] & self._missed) for kind in n}
        else:
            n, failed = self._by(name, mask), self._by(name, mask & self._missed)
        n = n | {value: 0 for value in chosen[name] if value not in n}
        values = [Value(one, one, failed.get(one, 0), n[one], one in chosen[name]) for one in n]
        return sorted(values, key=lambda one: (one.value == SUCCESS, -one.failed, one.value))

    def named(self, table: EpisodeTable, agents: Iterable[Value]) -> Iterator[Value]:
        """Values of the facet of agents, with their names."""
        agents = list(agents)
        unknown = [one.value for one in agents if one.value not in self._names]
        for digest, name in agent_names(table, unknown).items():
            plain = name in ("", digest)
            self._names[digest] = digest[:12] if plain else f"{name} ({digest[:8]})"
        for one in agents:
            yield one._replace(text=self._names[one.value])

    def cells(self, mask: Mask, order: Sequence[str]) -> list[Cell]:
        """Label by task, in the order of labels."""
        tasks = self._values["task"]
        found = []
        for task in sorted(self._by("task", mask)):
            there = mask & (self._codes["task"] == tasks.index(task))
            n, failed = self.sum(there), self._by("label", there & self._missed)
            found += [Cell(task, name, wilson(failed.get(name, 0), n)) for name in order]
        return found

    def pairs(self, mask: Mask) -> list[tuple[str, str]]:
        """Automatic label and a person's, of every failed episode that a person has labelled."""
        labels, people = self._values["label"], self._values["human"]
        both = zip(self._codes["label"], self._codes["human"], self._n, strict=True)
        return [
            pair
            for (label, human, n), wanted in zip(both, mask & self._missed, strict=True)
            if wanted and people[human] != UNLABELLED
            for pair in [(labels[label], people[human])] * n
        ]

    def _by(self, name: str, mask: Mask) -> dict[str, int]:
        """How many of some episodes have each value of a facet; one that none has is left out."""
        values = self._values[name]
        found = np.bincount(self._codes[name][mask], self._n[mask], len(values))
        return {value: int(n) for value, n in zip(values, found, strict=True) if n}


_kept: weakref.WeakKeyDictionary[Database, tuple[int, Tally]] = weakref.WeakKeyDictionary()
_keeping = threading.Lock()


def tally(table: EpisodeTable, region: Region | None = None) -> Tally:
    """The tally of a table; that of all its episodes is kept until something of it changes.

    Args:
        table: of which episodes.
        region: only those whose named object lay here; None for all.
    """
    if region is not None:
        return _counted(table, region)
    # Asked before anything is counted: what changes meanwhile makes it stale, never wrong.
    now = changes(table)
    with _keeping:
        known = _kept.get(table.database)
    if known and known[0] == now:
        return known[1]
    found = _counted(table, None)
    with _keeping:
        _kept[table.database] = now, found
    return found


def condition_text(condition: Condition) -> str:
    """A condition for people and addresses."""
    return ", ".join(filter(None, [f"{condition.words} sentences", condition.label]))


def text_of(condition: str) -> str:
    """The same of a condition as `Count.condition` has it."""
    return condition_text(Condition.from_json(json.loads(condition)))


def _counted(table: EpisodeTable, region: Region | None) -> Tally:
    found = counts(table, LabelFilter(region=region))
    return Tally(found, {key: text_of(key) for key in {one.condition for one in found}})
