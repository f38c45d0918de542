"""Intervals: plotly's error bars in plots, and a bar beside a number."""

from collections.abc import Iterable
from typing import Any

from vlm4vla.statistics import Rate

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


def rate_bar(rate: Rate) -> str:
    """A rate from 0 to 1 as a mark on a line, over its interval; the numbers must stand beside it.

    Args:
        rate: of at least one episode.
    """
    return (
        '<span class="ab-bar" aria-hidden="true">'
        f'<span class="ab-range" style="left:{100 * rate.low:.1f}%;'
        f'width:{100 * (rate.high - rate.low):.1f}%"></span>'
        f'<span class="ab-tick" style="left:{100 * rate.rate:.1f}%"></span></span>'
    )
