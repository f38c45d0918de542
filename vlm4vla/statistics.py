"""Success rates with their intervals, and whether two of them differ on the same trials."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

ALPHA: Final = 0.05
"""The share of comparisons without a difference that may be called one."""

_NORMAL: Final = NormalDist()

_Z95: Final = _NORMAL.inv_cdf(0.975)
"""97.5 % of a standard normal variable lie below."""

_Z80: Final = _NORMAL.inv_cdf(0.8)
"""80 % of a standard normal variable lie below."""


_NO_VARIANCE: Final = 1e-12
"""Below it a variance is what rounding left of zero."""


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
    z2 = _Z95**2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Rate(n, successes, p, max(0.0, centre - half), min(1.0, centre + half))


class PairedDifference(NamedTuple):
    """A difference of two success rates on the same trials, with its 95 % interval."""

    difference: float
    low: float
    high: float


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> PairedDifference:
    """Rate of a minus rate of b on the same trials (Newcombe 1998, method 10).

    Args:
        both: trials in which both succeeded.
        only_a: trials in which a alone did.
        only_b: trials in which b alone did.
        neither: trials in which both failed.

    Raises:
        ValueError: a count is negative, or there is no trial.
    """
    counts = (both, only_a, only_b, neither)
    n = sum(counts)
    if min(counts) < 0 or n == 0:
        raise ValueError(f"{counts} are no counts of paired trials")
    a, b = wilson(both + only_a, n), wilson(both + only_b, n)
    margins = a.successes * (n - a.successes) * b.successes * (n - b.successes)
    covariance: float = both * neither - only_a * only_b
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)
    phi = covariance / math.sqrt(margins) if margins else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = a.rate - b.rate
    return PairedDifference(
        difference,
        max(-1.0, difference - reach(a.rate - a.low, b.high - b.rate)),
        min(1.0, difference + reach(a.high - a.rate, b.rate - b.low)),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: that neither wins more of the trials that differ."""
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def holm(values: Sequence[float]) -> list[float]:
    """P values adjusted for being several (Holm 1979), in the order they were given."""
    adjusted, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted


def trials_to_tell(only_a: int, only_b: int, n: int, comparisons: int = 1) -> int | None:
    """How many paired trials would tell, in four cases of five, a difference as large as seen.

    For McNemar's test at 5 % with a power of 80 % (Connor 1987, formula 3).

    Args:
        only_a: trials in which a alone succeeded.
        only_b: trials in which b alone did.
        n: all trials.
        comparisons: how many `holm` adjusts for; each is then held to its first step, 5 % divided
            by their number.

    Returns:
        The number in all, or None where no difference was seen.
    """
    if only_a == only_b or n == 0:
        return None
    differing, difference = (only_a + only_b) / n, abs(only_a - only_b) / n
    needed = _z(comparisons) * math.sqrt(differing) + _Z80 * math.sqrt(differing - difference**2)
    return math.ceil((needed / difference) ** 2)


def detectable_difference(differing: int, n: int, comparisons: int = 1) -> float | None:
    """The smallest difference that so many paired trials tell in four cases of five.

    The inverse of `trials_to_tell`, at the share of trials that differ.

    Args:
        differing: trials in which one side alone succeeded.
        n: all trials.
        comparisons: see `trials_to_tell`.

    Returns:
        A difference of rates, or None where so few differing trials could tell none at all.
    """
    share, a, b = differing / n if n else 0.0, _z(comparisons), _Z80
    if n <= a * a:
        return None
    found = math.sqrt(share) * (a * math.sqrt(n) + b * math.sqrt(n - a * a + b * b)) / (n + b * b)
    return found if 0 < found <= share else None


def _z(comparisons: int) -> float:
    return _NORMAL.inv_cdf(1 - ALPHA / (2 * comparisons))


class Kappa(NamedTuple):
    """Agreement of two who label the same things, beyond chance, with its 95 % interval.

    Attributes:
        n: things that both labelled.
        agreed: of which both said the same.
        kappa: 1 for full agreement, 0 for as much as chance gives; None where it is not defined,
            since both always said the same one label or nothing was labelled.
        low: lower end of the interval.
        high: upper end.
    """

    n: int
    agreed: int
    kappa: float | None
    low: float
    high: float


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> Kappa:
    """Cohen's kappa (Cohen 1960) with its large-sample interval (Fleiss, Cohen and Everitt 1969).

    Where the sample shows no variance, as with one thing or when all agree, the interval says
    nothing: it is all of -1 to 1.

    Args:
        pairs: what the first and the second said of each thing.
    """
    n, agreed = len(pairs), sum(one == other for one, other in pairs)
    cells = Counter(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    chance = sum(first[name] * second[name] for name in first) / n**2 if n else 1.0
    if chance >= 1.0:
        return Kappa(n, agreed, None, -1.0, 1.0)
    observed = agreed / n
    kappa = (observed - chance) / (1 - chance)

    def share(one: str, other: str) -> float:
        # How often the second says what the first says here, and the other way round.
        return (second[one] + first[other]) / n

    alike = sum(
        count / n * (1 - share(one, one) * (1 - kappa)) ** 2
        for (one, other), count in cells.items()
        if one == other
    )
    unlike = (1 - kappa) ** 2 * sum(
        count / n * share(one, other) ** 2 for (one, other), count in cells.items() if one != other
    )
    variance = alike + unlike - (kappa - chance * (1 - kappa)) ** 2
    if variance < _NO_VARIANCE:
        return Kappa(n, agreed, kappa, -1.0, 1.0)
    reach = _Z95 * math.sqrt(variance / n) / (1 - chance)
    return Kappa(n, agreed, kappa, max(-1.0, kappa - reach), min(1.0, kappa + reach))
