import pytest
import torch
from torch import nn

from vlm4vla.train.loop.ema import Ema


def averaged(decay, values, start=0.0):
    """A weight that begins at a value and takes others, and its averages after each."""
    weight = nn.Parameter(torch.tensor([start]))
    average = Ema([("weight", weight)], decay)
    found = []
    for value in values:
        weight.data.fill_(value)
        average.update()
        found.append(average.values[0].item())
    return average, found


def test_averages_keep_the_share_that_is_said():
    # Kept of the old average: 1/11, 2/12 and 3/13, all below 0.9.
    # 10/11 * 1 = 10/11; 1/6 * 10/11 + 5/6 * 2 = 20/11; 3/13 * 20/11 + 10/13 * 3 = 30/11.
    _, found = averaged(0.9, [1.0, 2.0, 3.0])
    assert found == pytest.approx([10 / 11, 20 / 11, 30 / 11])


def test_averages_keep_no_more_than_the_decay():
    # 1/11, then 0.15 instead of 2/12 and 3/13.
    # 0.15 * 10/11 + 0.85 * 2 = 1.8363636; 0.15 * 1.8363636 + 0.85 * 3 = 2.8254545.
    _, found = averaged(0.15, [1.0, 2.0, 3.0])
    assert found == pytest.approx([0.9090909, 1.8363636, 2.8254545])


def test_a_run_that_goes_on_forgets_no_faster_than_before():
    average, _ = averaged(0.9, [])
    average.updates = 90
    average.learning[0][1].data.fill_(1.0)
    average.update()
    # 91/101 is more than 0.9, so a tenth of the new weight is taken.
    assert average.values[0].item() == pytest.approx(0.1)


def test_averages_are_in_place_for_a_while():
    average, found = averaged(0.9, [1.0, 2.0])
    weight = average.learning[0][1]
    with average.in_place():
        assert weight.item() == found[-1]
    assert weight.item() == 2.0
    average.take()
    assert weight.item() == found[-1]


def test_without_averages_nothing_is_copied(monkeypatch):
    weight = nn.Parameter(torch.ones(1))
    average = Ema([("weight", weight)], 0.0)
    average.update()
    monkeypatch.setattr(torch.Tensor, "clone", lambda *_, **__: pytest.fail("a weight was copied"))
    with average.in_place():
        assert weight.item() == 1.0
    average.take()
    assert weight.item() == 1.0
