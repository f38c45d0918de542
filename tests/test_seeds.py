import pytest

from vlm4vla import seeds


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
