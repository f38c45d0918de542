"""CKA against sums over all tuples, and where its value is known."""

from itertools import permutations

import numpy as np
import pytest

from vlm4vla.representations.similarity import cka, gram, hsic


def test_hsic_is_the_mean_over_all_tuples_of_different_rows() -> None:
    rng = np.random.default_rng(0)
    k, q = (gram(rng.normal(size=(6, 3))) for _ in range(2))
    # Gretton et al. 2005: E k(x,x') q(y,y') + E k E q - 2 E k(x,x') q(y,y''), each over tuples.
    pairs = np.mean([k[i, j] * q[i, j] for i, j in permutations(range(6), 2)])
    fours = np.mean([k[i, j] * q[a, b] for i, j, a, b in permutations(range(6), 4)])
    threes = np.mean([k[i, j] * q[i, a] for i, j, a in permutations(range(6), 3)])
    assert hsic(k, q) == pytest.approx(pairs + fours - 2 * threes)


def test_a_rotation_and_a_scale_change_nothing() -> None:
    rng = np.random.default_rng(1)
    one = rng.normal(size=(40, 5))
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert cka([gram(one)], [gram(3 * one @ turn + 7)])[0, 0] == pytest.approx(1)


def test_one_number_each_gives_the_squared_correlation() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=2000)
    y = 0.6 * x + 0.8 * rng.normal(size=len(x))
    # The population value of linear CKA of two scalars is the square of their correlation.
    assert cka([gram(x)], [gram(y)])[0, 0] == pytest.approx(0.36, abs=0.05)


def test_unrelated_features_have_none_however_wide_they_are() -> None:
    rng = np.random.default_rng(3)
    values = [
        cka([gram(rng.normal(size=(60, 400)))], [gram(rng.normal(size=(60, 400)))])[0, 0]
        for _ in range(30)
    ]
    # The biased estimate would be about 0.87 here.
    assert abs(np.mean(values)) < 0.01
    assert min(values) < 0 < max(values)


def test_a_layer_that_says_nothing_is_compared_to_nothing() -> None:
    found = cka([gram(np.zeros((10, 3)))], [gram(np.eye(10))])
    assert np.isnan(found).all()
