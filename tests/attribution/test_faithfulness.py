import numpy as np
import pytest

from tests.attribution.toys import Toy
from vlm4vla.attribution.faithfulness import (
    area,
    curves,
    mass_shares,
    points_at,
    rank_agreement,
)
from vlm4vla.attribution.inputs import Question
from vlm4vla.attribution.occlusion import occlusion
from vlm4vla.attribution.overlay import overlay
from vlm4vla.attribution.target import DISPLACEMENT


def test_curves_of_a_policy_that_looks_at_one_cell():
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:16, 112:] = 255
    policy, asked = Toy(lambda red: red[:, 7] / 2), Question(picture, "go")
    scores = occlusion(policy, asked, DISPLACEMENT).scores
    found = curves(policy, asked, DISPLACEMENT, scores, seeds=[0, 1, 2])
    # 30 mm with the cell, 4 / 255 of it under the mean colour; 17 points, so 16 intervals.
    full, low = 30, 30 * 4 / 255

    def falls_at(point):
        return ((point - 1) * full + (full + low) / 2 + (16 - point) * low) / 16

    assert area(found.deletion) == pytest.approx(falls_at(1))
    assert area(found.insertion) == pytest.approx(full + low - falls_at(1))
    places = [
        int(np.flatnonzero(np.random.default_rng(s).permutation(64) == 7)[0]) for s in (0, 1, 2)
    ]
    expected = [falls_at(place // 4 + 1) for place in places]
    np.testing.assert_allclose(area(found.random_deletion), expected)
    assert found.deletion_gain == pytest.approx(np.mean(expected) - falls_at(1))
    assert found.insertion_gain == pytest.approx(found.deletion_gain)
    # Turned upside down, the map is as wrong as can be: the cell comes last.
    worst = curves(policy, asked, DISPLACEMENT, -scores, seeds=[0, 1, 2])
    assert area(worst.deletion) == pytest.approx(falls_at(16))
    assert worst.deletion_gain < 0


def test_mass_lies_where_the_scores_are():
    scores = np.zeros((8, 8))
    scores[0, 0], scores[1, 1] = 3, -1
    left = np.zeros((128, 128), bool)
    left[:, :8] = True
    shares = mass_shares(scores, {"left": left, "rest": ~left})
    assert shares == pytest.approx({"left": 0.375, "rest": 0.625})
    assert mass_shares(np.zeros((8, 8)), {"left": left}) == {"left": 0}
    assert points_at(scores, left)
    assert not points_at(-scores, left)


def test_rank_agreement_is_spearmans():
    one = np.array([1.0, 2, 2, 4])
    # Ranks 1, 2.5, 2.5, 4 against 1 to 4: 4.5 / sqrt(4.5 * 5).
    assert rank_agreement(one, np.array([10.0, 20, 30, 40])) == pytest.approx(0.9486833)
    assert rank_agreement(one, -one) == pytest.approx(-1)
    assert np.isnan(rank_agreement(one, np.ones(4)))


def test_cells_are_drawn_flat_and_by_sign():
    scores = np.zeros((8, 8))
    scores[0, 0], scores[7, 7] = 2, -1
    drawn = overlay(np.full((128, 128, 3), 100, np.uint8), scores, scale=2)
    assert drawn.shape == (512, 512, 3)
    # 3 / 4 of (255, 120, 0), and 3 / 8 of (0, 110, 255), over grey of 100.
    assert (drawn[:64, :64] == (216, 115, 25)).all()
    assert (drawn[448:, 448:] == (62, 104, 158)).all()
    assert (drawn[:64, 64:] == 100).all()
