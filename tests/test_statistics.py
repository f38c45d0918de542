import math

import pytest

from vlm4vla.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # By hand, with z^2 = 3.8415: (0.9 + 0.19207 -+ 1.95996 * 0.13640) / 1.38415.
        (9, 10, 0.596, 0.982),
        # At p = 1/2 the interval is 1/2 -+ z / (2 sqrt(n + z^2)): 1/2 -+ 1.96 / (2 * 10.19).
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_intervals_worked_out_by_hand(successes: int, n: int, low: float, high: float) -> None:
    rate = wilson(successes, n)
    assert rate.rate == successes / n
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("successes", "n"), [(1, 7), (198, 200), (33, 50)])
def test_both_ends_lie_z_standard_errors_from_the_rate(successes: int, n: int) -> None:
    # Wilson's definition: the p for which |successes / n - p| = z sqrt(p (1 - p) / n).
    rate = wilson(successes, n)
    for end in (rate.low, rate.high):
        distance = abs(successes / n - end) / math.sqrt(end * (1 - end) / n)
        assert distance == pytest.approx(1.959964, abs=1e-5)


def test_none_and_all_stay_within_0_and_1() -> None:
    # With no success the upper end is z^2 / (n + z^2) = 3.8415 / 13.8415.
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(0.27753, abs=1e-5)
    assert wilson(10, 10).high == 1.0
    assert wilson(10, 10).low == pytest.approx(1 - 0.27753, abs=1e-5)


def test_without_trials_nothing_is_known() -> None:
    assert wilson(0, 0) == (0, 0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        wilson(successes, n)
