"""Paired comparison of two sides: on the same scenes, with its interval, and what would tell."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from vlm4vla.episodes.pairs import Pair
from vlm4vla.statistics import (
    ALPHA,
    PairedDifference,
    Rate,
    holm,
    mcnemar,
    paired_difference,
    trials_to_tell,
    wilson,
)


class Comparison(NamedTuple):
    """Two sides on the same scenes of one task.

    Attributes:
        task: the task that was carried out, or "all".
        both: scenes in which both succeeded.
        only_a: scenes in which a alone did.
        only_b: scenes in which b alone did.
        neither: scenes in which both failed.
        a: success rate of a.
        b: success rate of b.
        paired: rate of a minus rate of b with its 95 % interval.
        p: of the exact McNemar test.
        adjusted: the same for several tasks (Holm); of "all", the same as `p`.
        more: further scenes like these that would tell, in four cases of five, a difference as
            large as seen, adjusted like `adjusted`; 0 if these do, None where no difference was
            seen.
    """

    task: str
    both: int
    only_a: int
    only_b: int
    neither: int
    a: Rate
    b: Rate
    paired: PairedDifference
    p: float
    adjusted: float
    more: int | None

    @property
    def told(self) -> bool:
        """Whether these scenes tell the sides apart."""
        return self.adjusted < ALPHA

    def sentence(self, a: str, b: str) -> str:
        """The comparison as a sentence; never a better side where these scenes cannot tell.

        Args:
            a: what the first side is called.
            b: what the second side is called.
        """
        points = 100 * self.paired.difference
        counts = f"{self.a.successes} against {self.b.successes} of {self.a.n} shared scenes"
        interval = f"95 % {100 * self.paired.low:+.1f} to {100 * self.paired.high:+.1f}"
        if self.told:
            better, worse = (a, b) if points > 0 else (b, a)
            return (
                f"{better} succeeds more often than {worse}: {counts}, a minus b "
                f"{points:+.1f} points ({interval}), p = {self.adjusted:.2g}."
            )
        hint = (
            "No difference was seen."
            if self.more is None
            else f"About {self.more} more scenes would tell a difference like this one."
        )
        return (
            f"These scenes cannot tell {a} from {b}: {counts}, a minus b {points:+.1f} points "
            f"({interval}), p = {self.adjusted:.2g}. {hint}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        nested = {name: getattr(self, name)._asdict() for name in ("a", "b", "paired")}
        return {**self._asdict(), **nested, "told": self.told}


ALL: Final = "all"
"""`Comparison.task` of all tasks together."""


def compare(pairs: Sequence[Pair]) -> list[Comparison]:
    """Compares two sides task by task, and over all tasks if there are several.

    Args:
        pairs: scenes that both were given; none gives an empty list.
    """
    by_task: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_task.setdefault(pair.task, []).append(pair)
    rows = _adjusted([_comparison(task, found) for task, found in sorted(by_task.items())])
    return rows + (_adjusted([_comparison(ALL, pairs)]) if len(rows) > 1 else [])


def compare_several(several: Sequence[Sequence[Pair]]) -> list[list[Comparison]]:
    """Compares one side with several others; p values are adjusted for all of them together.

    Those of tasks are one family, and those over all tasks another.

    Args:
        several: the pairs with each of the others.
    """
    found = [compare(pairs) for pairs in several]
    for overall in (False, True):
        places = [
            (i, j)
            for i, rows in enumerate(found)
            for j, row in enumerate(rows)
            if (row.task == ALL) == overall
        ]
        for (i, j), row in zip(places, _adjusted([found[i][j] for i, j in places]), strict=True):
            found[i][j] = row
    return found


def to_csv(rows: Sequence[Comparison], a: str, b: str) -> str:
    """Comparisons as CSV, a task a line; shares are between 0 and 1.

    Args:
        rows: of `compare`.
        a: what the first side is called.
        b: what the second side is called.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    counts = ("both", "only_a", "only_b", "neither")
    rates = [f"{side}_{part}" for side in "ab" for part in ("rate", "low", "high")]
    differences = ("difference", "difference_low", "difference_high")
    head = ("a", "b", "task", "n", *counts, *rates, *differences, "p", "p_adjusted", "more_scenes")
    writer.writerow(head)
    for row in rows:
        found = [value for rate in (row.a, row.b) for value in (rate.rate, rate.low, rate.high)]
        cells = [getattr(row, name) for name in counts]
        more = "" if row.more is None else row.more
        writer.writerow(
            [a, b, row.task, row.a.n, *cells, *found, *row.paired, row.p, row.adjusted, more]
        )
    return out.getvalue()


def _comparison(task: str, pairs: Sequence[Pair]) -> Comparison:
    cells = Counter((pair.a.success, pair.b.success) for pair in pairs)
    only_a, only_b = cells[True, False], cells[False, True]
    both, neither, n = cells[True, True], cells[False, False], len(pairs)
    p = mcnemar(only_a, only_b)
    return Comparison(
        task,
        both,
        only_a,
        only_b,
        neither,
        wilson(both + only_a, n),
        wilson(both + only_b, n),
        paired_difference(both, only_a, only_b, neither),
        p,
        p,
        None,
    )


def _adjusted(rows: Sequence[Comparison]) -> list[Comparison]:
    """The same rows as one family of comparisons."""
    values = holm([row.p for row in rows])
    return [
        row._replace(adjusted=p, more=_more(row, p, len(rows)))
        for row, p in zip(rows, values, strict=True)
    ]


def _more(row: Comparison, adjusted: float, comparisons: int) -> int | None:
    if adjusted < ALPHA:
        return 0
    wanted = trials_to_tell(row.only_a, row.only_b, row.a.n, comparisons)
    return None if wanted is None else max(1, wanted - row.a.n)
