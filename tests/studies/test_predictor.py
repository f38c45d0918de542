"""`vlm4vla.studies.predictor`."""

import math

import numpy as np
import pytest

from vlm4vla.studies.predictor import Point, Prediction, _predict, _ranks, correlation


def point(study: str, start: str, predictor: float, success: float) -> Point:
    return Point(study, start, predictor, success)


def test_ranks_are_taken_within_studies():
    # Within each study the worse the probe, the less success; one study is easier as a whole.
    easy = [point("a", f"a{i}", 1.0 + i, 0.9 - 0.1 * i) for i in range(3)]
    hard = [point("b", f"b{i}", -9.0 + i, 0.3 - 0.1 * i) for i in range(3)]
    assert correlation(easy + hard) == pytest.approx(-1.0)
    # By hand: ranks 1, 2, 3 against 3, 1, 2, so (-1)(1) + 0 + (1)(0) = -1 of 2; with the other
    # block's -2 of 2 that is -3 of 4.
    mixed = [point("a", "x", 1, 0.9), point("a", "y", 2, 0.1), point("a", "z", 3, 0.5)]
    assert correlation(mixed + hard) == pytest.approx(-0.75)


def test_what_does_not_vary_says_nothing():
    assert math.isnan(correlation([point("a", f"{i}", 9.0, 0.1 * i) for i in range(4)]))
    assert math.isnan(correlation([]))


def test_cells_of_one_start_are_no_evidence_of_their_own():
    few = [point("a", f"{i % 4}", float(i % 4), 1.0 - 0.1 * (i % 4)) for i in range(40)]
    found = _predict("projector", "named", few)
    assert (found.points, found.starts) == (40, 4)
    assert math.isnan(found.low)
    assert "n is too small (40 cells of 4 starts)" in found.sentence()


def test_an_interval_over_starts_tells_what_is_so_and_not_what_is_not():
    so = [point("a", f"{i}", float(i), -float(i)) for i in range(12)]
    told = _predict("projector", "named", so)
    assert told.correlation == pytest.approx(-1.0)
    assert told.high < -0.9
    assert told.sentence().startswith("declared")
    assert told.sentence().endswith("they go together.")
    # Up and down by turns.
    not_so = [point("a", f"{i}", float(i), float(i % 2)) for i in range(12)]
    other = _predict("vision 3", "named", not_so)
    assert other.low < 0 < other.high
    assert other.sentence().startswith("exploratory")
    assert other.sentence().endswith("we cannot tell.")


def test_an_interval_is_of_starts_however_many_cells_each_has():
    once = [point("a", f"{i}", float(i), float(i * 5 % 12)) for i in range(12)]
    several = _predict("projector", "named", [cell for cell in once for _ in range(4)])
    alone = _predict("projector", "named", once)
    assert several.correlation == pytest.approx(alone.correlation)
    assert (several.low, several.high) == pytest.approx((alone.low, alone.high))


def test_a_draws_ranks_are_those_of_its_own_cells():
    values = np.array([0.5, 0.1, 0.5, 0.9])
    drawn = np.array([[2.0, 1.0, 0.0, 1.0], [1.0, 0.0, 3.0, 0.0]])
    # As if 0.1, 0.5, 0.5, 0.9 and 0.5, 0.5, 0.5, 0.5 were ranked; half a place less each.
    first, second = _ranks(values, drawn) + 0.5
    assert first[[1, 0, 3]] == pytest.approx([1, 2.5, 4])
    assert second[[0, 2]] == pytest.approx([2.5, 2.5])


def test_a_sentence_without_points_is_whole():
    assert (
        "n is too small (0 cells of 0 starts)"
        in Prediction("projector", "named", 0, 0, math.nan, math.nan, math.nan).sentence()
    )
