import pytest

from vlm4vla import seeds
from vlm4vla.core.condition import Condition
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP


def test_the_splits_share_no_seed() -> None:
    ranges = [seeds.TEST, seeds.SELECT, seeds.TRAIN]
    for index, first in enumerate(ranges):
        for second in ranges[index + 1 :]:
            assert first.stop <= second.start or second.stop <= first.start


@pytest.mark.parametrize(
    ("seed", "split"),
    [
        (0, "test"),
        (99_999, "test"),
        (100_000, "select"),
        (199_999, "select"),
        (200_000, "none"),
        (1_000_000, "train"),
        (99_999_999, "train"),
        (100_000_000, "none"),
        (-1, "none"),
    ],
)
def test_a_seed_belongs_to_one_split(seed: int, split: str) -> None:
    assert seeds.split_of(seed) == split


@pytest.mark.parametrize(
    ("first", "count", "split"), [(0, 100_000, "test"), (100_000, 1, "select")]
)
def test_somebody_is_evaluated_on_one_split(first: int, count: int, split: str) -> None:
    assert seeds.evaluated(first, count) == split


@pytest.mark.parametrize(("first", "count"), [(99_950, 100), (1_000_000, 1), (199_999, 2), (-1, 2)])
def test_scenes_of_two_splits_or_of_training_are_no_evaluation(first: int, count: int) -> None:
    with pytest.raises(UserError, match=f"{first} to {first + count - 1} are not for evaluation"):
        seeds.evaluated(first, count)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**20])
def test_a_seed_that_no_table_can_keep_is_refused_before_the_episode(seed: int) -> None:
    with pytest.raises(UserError, match=f"no seed {seed}. Seeds are numbers from 0 to 9,223"):
        TABLETOP.spec("reach", seed, Condition())
    assert TABLETOP.spec("reach", 2**63 - 1, Condition()).seed == 2**63 - 1
