"""Probes against worlds whose answer is known."""

import numpy as np
import pytest

from vlm4vla.representations.attentive import attentive_probes
from vlm4vla.representations.pictures import Split, split
from vlm4vla.representations.ridge import kernel, linear_probes, ridge
from vlm4vla.representations.scores import score


def thirds(n: int) -> Split:
    place = np.arange(n) % 3
    return Split(place == 0, place == 1, place == 2)


def test_ridge_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    fit = np.arange(30) < 20
    products = kernel(features, fit)
    found = ridge(products, truth, fit, (0.1,))[0]
    # In the primal form: weights of the standardised features, the intercept not shrunk.
    z = (features - features[fit].mean(0)) / features[fit].std(0)
    mean = truth[fit].mean(0)
    # The kernel is a mean over 4 features and the penalty 0.1 for each of 20 pictures.
    normal = z[fit].T @ z[fit] / 4 + 20 * 0.1 * np.eye(4)
    weights = np.linalg.solve(normal, z[fit].T @ (truth[fit] - mean) / 4)
    np.testing.assert_allclose(found, z @ weights + mean, atol=1e-5)


def test_a_linear_probe_finds_what_is_linear_and_skips_what_is_not_told() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(300, 2, 10))
    truth = np.stack([features[:, 0, :2] * 3 + 5, rng.normal(size=(300, 2))], 1)
    truth[::7, 0] = np.nan
    parts = thirds(300)
    found = linear_probes(kernel(features, parts.fit), {"value": truth}, parts, ())["value"]
    known = parts.test & ~np.isnan(truth[:, 0, 0])
    wrong = np.linalg.norm(found[known, 0] - truth[known, 0], axis=-1)
    assert wrong.max() < 0.05
    # Noise cannot be told: the strongest penalty wins, and the answer is nearly the mean.
    assert found[parts.test, 1].std() < 0.3


def test_an_attentive_probe_finds_a_token_wherever_it_stands() -> None:
    rng = np.random.default_rng(2)
    n, tokens, width = 900, 9, 8
    features = rng.normal(size=(n, tokens, width)) * 0.3
    features[..., 0] = 0
    truth = rng.uniform(-5, 5, (n, 1, 1))
    marked = rng.integers(tokens, size=n)
    features[np.arange(n), marked, 0] = 4
    features[np.arange(n), marked, 1] = truth[:, 0, 0] / 3
    parts = thirds(n)
    seen = attentive_probes(features.astype(np.float16), {"value": truth}, parts)["value"]
    linear = linear_probes(kernel(features, parts.fit), {"value": truth}, parts, ())["value"]

    def error(found: np.ndarray) -> float:
        return score(found, truth, np.arange(n), parts, "distance").value

    # Always answering the mean is off by 2.5 on average.
    assert error(seen) < 0.6
    assert error(linear) > 1.0


def test_no_scene_is_in_two_parts() -> None:
    scenes = np.repeat(np.arange(200), 4)
    parts = split(scenes)
    of = [set(scenes[part]) for part in parts]
    assert [len(one) for one in of] == [120, 30, 50]
    assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2]


def test_a_distance_is_a_mean_and_its_interval_is_that_of_scenes() -> None:
    rng = np.random.default_rng(3)
    n, each = 400, 5
    scenes = np.repeat(np.arange(n), each)
    # All pictures of a scene have the same error.
    error = np.repeat(rng.exponential(2.0, n), each)
    parts = Split(*(np.full(n * each, part) for part in (False, False, True)))
    truth = np.zeros((n * each, 1, 2))
    predicted = np.stack([0.6 * error, 0.8 * error], -1)[:, None]
    told = score(predicted, truth, scenes, parts, "distance")
    assert told.value == pytest.approx(error.mean())
    assert (told.n, told.scenes) == (2000, 400)
    # 1.96 standard errors of 400 scenes, not of 2,000 pictures, which would be 0.45 of it.
    half = 1.96 * error[::each].std() / np.sqrt(n)
    assert (told.high - told.low) / 2 == pytest.approx(half, rel=0.15)


def test_balanced_accuracy_of_an_unbalanced_question() -> None:
    n = 1000
    truth = (np.arange(n) % 10 == 0).astype(float)[:, None, None]
    parts = Split(np.zeros(n, bool), np.ones(n, bool), np.ones(n, bool))
    told = truth.copy()
    told[np.flatnonzero(truth[:, 0, 0])[:25]] = 0
    assert score(told, truth, np.arange(n), parts, "choice").value == pytest.approx(0.875)
    constant = score(np.zeros_like(truth), truth, np.arange(n), parts, "choice")
    assert constant.value == pytest.approx(0.5)


def test_a_question_with_one_answer_is_not_judged() -> None:
    n = 30
    rng = np.random.default_rng(4)
    truth = rng.integers(2, size=(n, 3, 1)).astype(float)
    parts = thirds(n)
    # The first part is never yes where strengths are chosen, the second never where it is judged.
    truth[parts.choose, 0] = 0
    truth[parts.test, 1] = 0
    told = score(truth, truth, np.arange(n), parts, "choice")
    assert (told.value, told.n) == (1.0, parts.test.sum())
    none = score(truth[:, :2], truth[:, :2], np.arange(n), parts, "choice")
    assert np.isnan(none[:3]).all() and (none.n, none.scenes) == (0, 10)


def test_positions_that_no_scene_tells_are_not_zero_off() -> None:
    truth = np.full((30, 1, 2), np.nan)
    told = score(truth, truth, np.arange(30), thirds(30), "distance")
    assert np.isnan(told[:3]).all() and told.n == 0
