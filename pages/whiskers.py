"""Intervals in plots: plotly's error bars."""

from collections.abc import Iterable
from typing import Any

Value = tuple[float, float, float]
"""A value with the lower and upper end of its interval."""


def whiskers(values: Iterable[Value | None], scale: float = 1.0, **style: Any) -> dict[str, Any]:
    """Error bars from the ends of intervals.

    Args:
        values: one a point; None where a line is broken.
        scale: from their unit to the plot's.
        style: further settings of the bars, such as `color`.
    """
    known = list(values)
    return {
        "type": "data",
        "symmetric": False,
        "array": [scale * (one[2] - one[0]) if one else None for one in known],
        "arrayminus": [scale * (one[0] - one[1]) if one else None for one in known],
        **style,
    }
