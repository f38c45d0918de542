"""Predictors of control: does a number that is known before training go with success after it?

The points are the cells of all studies, and a study is a block: ranks are taken within one, so that
a study's other scenes or rates are not mistaken for the predictor. Cells with one start share its
number, so it is starts and not cells that are drawn anew for the interval.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.studies.measures import NAMED, PROBE, PROJECTOR, origin_of
from vlm4vla.studies.report import ALL, Report

QUESTION: Final = "Does a number that is known before training predict control?"

DECLARED: Final = (PROJECTOR, NAMED)
"""Layer and concept of the one predictor that was fixed before any cell was run."""

SMALLEST: Final = 10
"""Different starts without which n is too small to say anything."""

_DRAWS: Final = 2_000


class Point(NamedTuple):
    """A cell.

    Attributes:
        study: its block; a cell of several studies counts once, in the first.
        start: name of what it started from.
        predictor: the number before training.
        success: rate over all tasks after it.
    """

    study: str
    start: str
    predictor: float
    success: float


class Prediction(NamedTuple):
    """How a number before training goes with success after it.

    Attributes:
        layer: that is probed.
        concept: what for.
        points: cells.
        starts: how many different ones they have.
        correlation: Spearman's, within studies; NaN where nothing varies.
        low: of its 95 % interval over starts; NaN with fewer than `SMALLEST`.
        high: of the same.
    """

    layer: str
    concept: str
    points: int
    starts: int
    correlation: float
    low: float
    high: float

    @property
    def declared(self) -> bool:
        """Whether it was fixed before; all others are exploratory."""
        return (self.layer, self.concept) == DECLARED

    def sentence(self) -> str:
        """The answer, never more than it says."""
        about = (
            f"{'declared' if self.declared else 'exploratory'}, probe of {self.layer} for "
            f"{self.concept}, before training, against success: "
        )
        n = f"{self.points} cells of {self.starts} starts"
        if self.starts < SMALLEST or math.isnan(self.correlation):
            return f"{about}n is too small ({n})."
        told = self.low > 0 or self.high < 0
        verdict = "they go together" if told else "we cannot tell"
        return (
            f"{about}Spearman within studies {self.correlation:+.2f} (95 % over starts "
            f"{self.low:+.2f} to {self.high:+.2f}; {n}): {verdict}."
        )


def predictions(found: Sequence[Report], concept: str = "") -> list[Prediction]:
    """What every probe before training says of control, the declared one first.

    Args:
        found: all studies; cells that lack episodes or measures are left out.
        concept: only those for it; "" for all.
    """
    names: dict[tuple[str, str], None] = {DECLARED: None}
    for report in found:
        for cell in report.cells:
            if cell.measures and cell.measures.before:
                rows = (row for row in cell.measures.before.rows if row.what == PROBE)
                names |= {(row.layer, row.concept): None for row in rows}
    wanted = [name for name in names if name[1] == concept or not concept]
    return [_predict(*name, points(found, *name)) for name in wanted]


def points(found: Sequence[Report], layer: str, concept: str) -> list[Point]:
    """The cells of which both numbers are known.

    Args:
        found: all studies.
        layer: that is probed.
        concept: what for.
    """
    known: dict[str, Point] = {}
    for report in found:
        for cell in report.cells:
            before = cell.measures.before if cell.measures else None
            row = before.find(PROBE, layer, concept) if before else None
            if row is None or cell.missing or not cell.rates:
                continue
            one = cell.member.cell
            rate = cell.rates.get(ALL) or next(iter(cell.rates.values()))
            place = Point(report.study.name, origin_of(one).name, row.score, rate.rate)
            known.setdefault(one.name, place)
    return list(known.values())


def correlation(some: Sequence[Point]) -> float:
    """Spearman's correlation of predictor and success within studies; NaN where nothing varies."""
    return float(_correlations(some, np.ones((1, len(some))))[0])


def to_json(one: Prediction) -> dict[str, Any]:
    """Plain values; nothing but finite numbers."""
    values = {**one._asdict(), "declared": one.declared, "sentence": one.sentence()}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _predict(layer: str, concept: str, some: Sequence[Point]) -> Prediction:
    starts = list(dict.fromkeys(one.start for one in some))
    low, high = math.nan, math.nan
    if len(starts) >= SMALLEST:
        drawn = _drawn(some, starts)
        if len(drawn):
            low, high = (float(np.quantile(drawn, share)) for share in (0.025, 0.975))
    return Prediction(layer, concept, len(some), len(starts), correlation(some), low, high)


def _drawn(some: Sequence[Point], starts: Sequence[str]) -> NDArray[np.float64]:
    """The correlation of starts drawn anew, where it is known."""
    places = [starts.index(one.start) for one in some]
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(starts), [1 / len(starts)] * len(starts), size=_DRAWS)
    values = _correlations(some, times[:, places].astype(float))
    return values[np.isfinite(values)]


def _correlations(some: Sequence[Point], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D,) Spearman's correlations within studies of P cells counted as often as (D, P) says."""
    sums = np.zeros((3, len(weights)))
    for study in dict.fromkeys(one.study for one in some):
        mine = np.array([one.study == study for one in some])
        block, w = [one for one in some if one.study == study], weights[:, mine]
        x, y = (
            ranks - ((w * ranks).sum(1) / np.maximum(w.sum(1), 1))[:, None]
            for ranks in (
                _ranks(np.array([one.predictor for one in block]), w),
                _ranks(np.array([one.success for one in block]), w),
            )
        )
        sums += [(w * x * y).sum(1), (w * x * x).sum(1), (w * y * y).sum(1)]
    both, of_x, of_y = sums
    scale = np.sqrt(of_x * of_y)
    return np.where(scale > 0, both / np.where(scale > 0, scale, 1), np.nan)


def _ranks(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D, P) ranks of P values within each draw, ties in the middle, up to a constant.

    Ranks of all cells would take a value's place among the others for known, and the interval
    would be too narrow.
    """
    below = (values[:, None] < values) + (values[:, None] == values) / 2
    ranks: NDArray[np.float64] = weights @ below
    return ranks
