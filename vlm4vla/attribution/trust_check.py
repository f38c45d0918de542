"""The check of a trust table: the same measures over other episodes, set against the shipped ones.

A difference of two means or rates has its interval from theirs (MOVER, Zou and Donner 2008), so
nothing of single episodes has to be shipped.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vlm4vla.attribution.trust_results import MEASURES, SHIPPED, Row, TrustTable, read_trust
from vlm4vla.errors import UserError


class Check(NamedTuple):
    """A measure in both tables.

    Attributes:
        when: which inference of an episode.
        target: what was explained.
        method: by what.
        measure: of its maps, one of `vlm4vla.attribution.trust_results.MEASURES`.
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


def shipped_table(digest: str, folder: Path = SHIPPED) -> TrustTable:
    """The shipped trust table of a checkpoint.

    Raises:
        UserError: there is none.
    """
    for table in read_trust(folder):
        if table.digest == digest:
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
    for measure in MEASURES:
        before, now = measure.of(shipped), measure.of(found)
        if before is None or now is None:
            continue
        ends = (before.low, before.high, now.low, now.high)
        known = [end for end in ends if end is not None]
        if len(known) < len(ends):
            continue
        a_low, a_high, b_low, b_high = known
        a, b = before.value, now.value
        low = b - a - math.hypot(b - b_low, a_high - a)
        high = b - a + math.hypot(b_high - b, a - a_low)
        yield Check(*_key(found), measure.name, a, b, low, high)
