"""Intervals for success rates."""

import math
from typing import NamedTuple


class Rate(NamedTuple):
    """A success rate with its 95 % Wilson score interval."""

    n: int
    successes: int
    rate: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Rate:
    """The rate `successes / n` with its 95 % Wilson score interval (Wilson 1927).

    Raises:
        ValueError: `successes` is not within 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    if n == 0:
        return Rate(0, 0, 0.0, 0.0, 1.0)
    z2 = 1.959963984540054**2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Rate(n, successes, p, max(0.0, centre - half), min(1.0, centre + half))
