from dataclasses import replace

import numpy as np
import pytest

from tests.episodes.examples import example
from vlm4vla.ablation.divergence import Divergence, divergence
from vlm4vla.suites.registry import TABLETOP


def acting(*moves):
    actions = np.zeros((len(moves), 7), np.float32)
    actions[:, :3] = moves
    return replace(example(steps=len(moves)), actions=actions)


def test_distances_are_in_millimetres_and_end_with_the_shorter_episode():
    # 1.0 commands 0.1 m: (0.3, 0.4, 0) is 50 mm away from rest.
    still = acting((0, 0, 0), (0, 0, 0), (0, 0, 0))
    one = acting((0.3, 0.4, 0), (0, 0, 1), (0, 0, 0))
    short = acting(
        (0, 0, 0.1),
    )
    assert divergence([(one, still), (short, still)], TABLETOP.action) == [
        Divergence(0, pytest.approx((50 + 10) / 2), 2),
        Divergence(1, pytest.approx(100.0), 1),
        Divergence(2, 0.0, 1),
    ]
    assert divergence([], TABLETOP.action) == []
