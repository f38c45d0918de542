"""The check of a trust table: the same measures over other episodes, set against the shipped ones.

A difference of two means or rates has its interval from theirs (MOVER, Zou and Donner 2008), so
nothing of single episodes has to be shipped.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla.attribution.worth import SHIPPED
from vlm4vla.errors import UserError

MEASURES: Final = ("deletion", "insertion", "infidelity", "points_at_object", "collapse")
"""Columns that are compared, and the share of mass on the named object."""

Row = Mapping[str, Any]


class Check(NamedTuple):
    """A measure in both tables.

    Attributes:
        when: which inference of an episode.
        target: what was explained.
        method: by what.
        measure: of its maps.
        shipped: in the shipped table.
        found: over the other episodes.
        low: of the 95 % interval of found minus shipped.
        high: of the same.
    """

    when: str
    target: str
    method: str
    measure: str
    shipped: float
    found: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the interval of the difference holds 0."""
        return self.low <= 0 <= self.high


def shipped_table(digest: str, folder: Path = SHIPPED) -> Mapping[str, Any]:
    """The shipped trust table of a checkpoint.

    Raises:
        UserError: there is none.
    """
    for path in sorted(folder.glob("trust-*.json")):
        table: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        if table["checkpoint"] == digest:
            return table
    raise UserError(
        f"No trust table of the checkpoint {digest} is shipped.",
        "Make one with `vlm4vla trust`.",
    )


def compare(shipped: Sequence[Row], found: Sequence[Row]) -> list[Check]:
    """Every measure that both tables have with an interval.

    Args:
        shipped: rows of the shipped table.
        found: rows over the other episodes.
    """
    known = {_key(row): row for row in shipped}
    return [
        check for row in found if _key(row) in known for check in _checks(known[_key(row)], row)
    ]


def lines_of(checks: Sequence[Check]) -> list[str]:
    """What differs, a line each, and how much of that chance alone would give."""
    lines = [
        f"{one.when}, {one.target}, {one.method}: {one.measure} is {one.found:.3g} here and "
        f"{one.shipped:.3g} in the shipped table (difference 95 % {one.low:+.3g} to "
        f"{one.high:+.3g})"
        for one in checks
        if not one.holds
    ]
    held = sum(one.holds for one in checks)
    chance = len(checks) / 20
    return [
        *lines,
        f"{held} of {len(checks)} measures agree with the shipped table: the 95 % interval of the "
        f"difference holds 0. By chance alone about {chance:.0f} would not.",
    ]


def _key(row: Row) -> tuple[str, str, str]:
    return row["when"], row["target"], row["method"]


def _checks(shipped: Row, found: Row) -> Iterator[Check]:
    for name in (*MEASURES, "mass on the named object"):
        before, now = _measure(shipped, name), _measure(found, name)
        if before is None or now is None:
            continue
        (a, a_low, a_high), (b, b_low, b_high) = before, now
        low = b - a - math.hypot(b - b_low, a_high - a)
        high = b - a + math.hypot(b_high - b, a - a_low)
        yield Check(*_key(found), name, a, b, low, high)


def _measure(row: Row, name: str) -> tuple[float, float, float] | None:
    """Value and ends of its interval; None where there is no interval."""
    whole = row["mass"].get("object") if name not in MEASURES else row[name]
    if not whole:
        return None
    values = whole.get("rate", whole.get("mean")), whole["low"], whole["high"]
    if not whole["n"] or any(value is None or math.isnan(value) for value in values):
        return None
    return values
