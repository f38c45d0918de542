"""Which scene seeds may be used for what; the ranges never overlap.

A seed fixes the scene of an episode (objects, colours, poses) and the instruction drawn for it.
Figures that are reported come from `TEST`; checkpoints are chosen on `SELECT`; everything that a
model learns from has seeds in `TRAIN`.
"""

from vlm4vla.errors import UserError

LARGEST = 2**63 - 1
"""What the table of episodes can keep."""

TEST = range(0, 100_000)
SELECT = range(100_000, 200_000)
TRAIN = range(1_000_000, 100_000_000)

UNSEEN = range(TEST.start, SELECT.stop)
"""Scenes that no model learns from: those that a visitor may choose."""


def checked(seed: int) -> int:
    """The seed, if an episode of it can be kept.

    Raises:
        UserError: it is negative or too large.
    """
    if not 0 <= seed <= LARGEST:
        raise UserError(f"There is no seed {seed}.", f"Seeds are numbers from 0 to {LARGEST:,}.")
    return seed


def evaluated(first: int, count: int) -> str:
    """The split of the seeds `first` to `first + count - 1`, on which somebody is evaluated.

    Raises:
        UserError: some are for training or for nothing, or they are of two splits, whose rates
            mean different things.
    """
    splits = {split_of(first), split_of(first + count - 1)}
    if len(splits) > 1 or not splits <= {"test", "select"}:
        raise UserError(
            f"Seeds {first} to {first + count - 1} are not for evaluation.",
            f"Use {TEST.start} to {TEST.stop - 1} to report, {SELECT.start} to {SELECT.stop - 1} "
            "to choose between checkpoints.",
        )
    return splits.pop()


def split_of(seed: int) -> str:
    """The split a seed belongs to: "test", "select", "train" or "none"."""
    for name, seeds in (("test", TEST), ("select", SELECT), ("train", TRAIN)):
        if seed in seeds:
            return name
    return "none"
