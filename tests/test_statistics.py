import math
import random

import pytest

from vlm4vla.statistics import (
    cohens_kappa,
    detectable_difference,
    holm,
    mcnemar,
    paired_difference,
    trials_to_tell,
    wilson,
)


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


def test_without_agreement_beyond_chance_a_paired_interval_adds_the_arms_of_both_rates() -> None:
    # 25 of each kind: both rates are 1/2 of 100, 1/2 -+ 0.09617 (above), and they are independent:
    # the arms add up as squares, sqrt(2) * 0.09617.
    found = paired_difference(25, 25, 25, 25)
    assert found.difference == 0
    assert (found.low, found.high) == pytest.approx((-0.1360, 0.1360), abs=1e-4)


def test_sides_that_mostly_agree_are_told_apart_by_fewer_trials() -> None:
    alike, unlike = paired_difference(50, 10, 0, 40), paired_difference(30, 30, 20, 20)
    assert alike.difference == pytest.approx(unlike.difference) == pytest.approx(0.1)
    assert alike.low > 0 > unlike.low


def test_swapping_the_sides_turns_the_paired_interval_round() -> None:
    one, other = paired_difference(40, 25, 5, 30), paired_difference(40, 5, 25, 30)
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-other.difference, -other.high, -other.low)
    )


def test_95_of_100_paired_intervals_hold_the_true_difference() -> None:
    draws, shares, held = random.Random(0), (0.55, 0.2, 0.1, 0.15), 0
    for _ in range(2_000):
        cells = draws.choices(range(4), shares, k=100)
        found = paired_difference(*(cells.count(cell) for cell in range(4)))
        held += found.low <= 0.1 <= found.high
    # 2,000 draws at 95 % lie within 1.5 points; the method is known to be slightly wide.
    assert 0.935 <= held / 2_000 <= 0.975


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (-1, 2, 2, 2)])
def test_impossible_pairs_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="paired"):
        paired_difference(*counts)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        # 2 (1 + 10 + 45) / 1024.
        (8, 2, 112 / 1024),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_counts_the_tails_of_a_fair_coin(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a) == pytest.approx(p)


def test_holm_multiplies_by_how_many_are_left_and_keeps_the_order() -> None:
    # 3 * 0.01, then 2 * 0.02 = 0.04, then 1 * 0.03, which may not be below 0.04.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_so_many_trials_would_tell_a_difference_as_large_as_seen() -> None:
    # 20 % differ by 10 %: (1.96 sqrt(0.2) + 0.8416 sqrt(0.19))^2 / 0.01 = 154.3.
    assert trials_to_tell(15, 5, 100) == trials_to_tell(5, 15, 100) == 155
    assert trials_to_tell(7, 7, 100) is None
    assert trials_to_tell(0, 0, 0) is None
    # Beside eleven others 97.5 % becomes 1 - 0.05 / 24 and 1.96 becomes 2.8653:
    # (2.8653 sqrt(0.2) + 0.8416 sqrt(0.19))^2 / 0.01 = 271.7.
    assert trials_to_tell(15, 5, 100, comparisons=12) == 272


def test_the_smallest_difference_is_the_one_that_as_many_trials_would_tell() -> None:
    # Where 20 % differ, a difference of 10 % needs 154.3 trials, see above.
    assert detectable_difference(31, 155) == pytest.approx(0.1, abs=3e-4)
    # And with 40 trials d = 0.1923: (1.95996 sqrt(0.2) + 0.84162 sqrt(0.2 - d^2))^2 / d^2 = 40.
    assert detectable_difference(8, 40) == pytest.approx(0.1923, abs=1e-4)
    # 271.7 trials where it is one of twelve.
    assert detectable_difference(54, 272, comparisons=12) == pytest.approx(0.1, abs=6e-4)
    # Of 100 trials, 2 that differ tell nothing, however they fall.
    assert detectable_difference(2, 100) is None
    assert detectable_difference(0, 100) is None
    assert detectable_difference(1, 3) is None


def test_kappa_worked_out_by_hand() -> None:
    # 20 both say a, 5 and 10 they differ, 15 both say b: observed 35/50; chance
    # (25 * 30 + 25 * 20) / 2500 = 1/2; so 0.2 / 0.5.
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    kappa = cohens_kappa(pairs)
    assert (kappa.n, kappa.agreed) == (50, 35)
    assert kappa.kappa == pytest.approx(0.4)
    # Fleiss, Cohen and Everitt's variance, term by term: 0.10972 on the diagonal, 0.10188 beside
    # it, less (0.4 - 0.3)^2: 0.2016 / 50, whose root over 1/2 is 0.126996.
    diagonal = 0.4 * (1 - (0.5 + 0.6) * 0.6) ** 2 + 0.3 * (1 - (0.5 + 0.4) * 0.6) ** 2
    # Of (a, b): how often the second says a (0.6), and the first b (0.5); of (b, a): 0.4 and 0.5.
    beside = 0.36 * (0.1 * (0.6 + 0.5) ** 2 + 0.2 * (0.4 + 0.5) ** 2)
    error = math.sqrt((diagonal + beside - (0.4 - 0.5 * 0.6) ** 2) / 50) / 0.5
    assert error == pytest.approx(0.126996, abs=1e-6)
    assert kappa.low == pytest.approx(0.4 - 1.959964 * error, abs=1e-6)
    assert kappa.high == pytest.approx(0.4 + 1.959964 * error, abs=1e-6)


def test_kappa_at_its_ends() -> None:
    assert cohens_kappa([("a", "a"), ("b", "b")] * 5).kappa == 1.0
    # Always the opposite of two equally frequent labels: 0 observed, 1/2 by chance.
    assert cohens_kappa([("a", "b"), ("b", "a")] * 5).kappa == -1.0
    # Who says one thing whatever the other says agrees as chance does.
    assert cohens_kappa([("a", "a"), ("b", "a")] * 5).kappa == pytest.approx(0.0)
    for sure in ([("a", "b")], [("a", "a"), ("b", "b")] * 5):
        assert cohens_kappa(sure)[3:] == (-1.0, 1.0)
    for nothing in ([], [("a", "a")] * 7):
        assert cohens_kappa(nothing).kappa is None


def test_the_interval_of_kappa_holds_it_in_19_cases_of_20() -> None:
    # Two who each err in one case of five, independently, over two equally frequent labels: they
    # agree in 0.68, so kappa is 0.36.
    draw, held, cases = random.Random(3), 0, 400
    for _ in range(cases):
        pairs = []
        for _ in range(150):
            true = draw.random() < 0.5
            one, other = (true ^ (draw.random() < 0.2) for _ in range(2))
            pairs.append((str(one), str(other)))
        kappa = cohens_kappa(pairs)
        held += kappa.low <= 0.36 <= kappa.high
    # Three standard errors of 400 draws at 0.95 are 0.033.
    assert 0.917 < held / cases < 0.983
