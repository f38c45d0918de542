"""Statistics of features, an episode's and a dataset's, as the LeRobotDataset layout names them."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

QUANTILES: Final = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Statistics = dict[str, list[Any]]
"""min, max, mean, std, count and the quantiles, each a list shaped like the feature."""

_BLOCK: Final = 64
"""Components whose quantiles are taken at once: a copy is sorted, and labels have hundreds."""


def of_values(values: NDArray[Any]) -> Statistics:
    """Statistics of a feature over frames.

    Args:
        values: (T,) or (T, d), any number type or bool; integers keep integer extremes.
    """
    table = values.reshape(len(values), -1)
    exact = int if np.issubdtype(table.dtype, np.integer) else float
    found: Statistics = {
        "min": [exact(value) for value in table.min(axis=0)],
        "max": [exact(value) for value in table.max(axis=0)],
        "mean": table.mean(axis=0, dtype=np.float64).tolist(),
        "std": table.std(axis=0, dtype=np.float64).tolist(),
        "count": [len(table)],
    }
    blocks = [
        np.quantile(
            table[:, start : start + _BLOCK].astype(np.float64), list(QUANTILES.values()), axis=0
        )
        for start in range(0, table.shape[1], _BLOCK)
    ]
    for name, row in zip(QUANTILES, np.concatenate(blocks, axis=1), strict=True):
        found[name] = row.tolist()
    return found


def levels(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each of the 256 levels occurs in each channel: (T, h, w, 3) gives (3, 256)."""
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)])


def of_levels(counts: NDArray[np.int64], frames: int) -> Statistics:
    """Exact statistics of pictures from `levels`, scaled to 0..1 and shaped (3, 1, 1).

    Args:
        counts: (3, 256), summed over as many episodes as wanted.
        frames: how many pictures were counted; the layout counts pictures, not pixels.
    """
    scale = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ scale / total
    seen = [np.flatnonzero(channel) for channel in counts]
    cumulative = counts.cumsum(axis=1)

    def shaped(values: Any) -> list[Any]:
        return [[[float(value)]] for value in values]

    found: Statistics = {
        "min": shaped(scale[which[0]] for which in seen),
        "max": shaped(scale[which[-1]] for which in seen),
        "mean": shaped(mean),
        "std": shaped(np.sqrt(np.maximum(counts @ scale**2 / total - mean**2, 0.0))),
        "count": [frames],
    }
    for name, quantile in QUANTILES.items():
        reached = (cumulative >= quantile * total[:, None]).argmax(axis=1)
        found[name] = shaped(scale[reached])
    return found
