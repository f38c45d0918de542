"""How good a probe's predictions are, with intervals over scenes."""

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.representations.pictures import Split, Values

DRAWS: Final = 1000
"""Bootstrap samples of the test scenes."""


class Score(NamedTuple):
    """A metric over the test pictures with its 95 % bootstrap interval over scenes.

    Attributes:
        value: mean distance in cm, or balanced accuracy from 0 to 1.
        low: lower end.
        high: upper end.
        n: answers that were judged; where none could be, it is 0 and the rest is NaN.
        scenes: seeds that they are from.
    """

    value: float
    low: float
    high: float
    n: int
    scenes: int


def score(
    predicted: Values,
    truth: Values,
    scenes: NDArray[np.int64],
    parts: Split,
    kind: Literal["distance", "choice"],
) -> Score:
    """Judges predictions on the test pictures.

    Args:
        predicted: (N, parts, dimensions).
        truth: the same; NaN where a picture has no such part, and nothing is judged.
        scenes: (N,) seeds; the bootstrap draws whole seeds.
        parts: which pictures are for what.
        kind: "distance" for the mean Euclidean distance; "choice" for the mean of the hit rates on
            yes and on no, averaged over parts, where a prediction means yes if it lies above the
            middle of the mean predictions for yes and for no on the pictures of `parts.choose`.
            A part counts only if pictures of `parts.choose` and of `parts.test` show both answers.
    """
    known: NDArray[np.bool_] = np.isfinite((truth + predicted).sum(-1))
    judged = known & parts.test[:, None]
    seeds, group = np.unique(scenes[parts.test], return_inverse=True)
    place = np.zeros(len(scenes), int)
    place[parts.test] = group
    drawn = np.random.default_rng(0).multinomial(len(seeds), [1 / len(seeds)] * len(seeds), DRAWS)
    # The first "draw" takes every scene once: it is the value itself.
    draws = np.vstack([np.ones(len(seeds)), drawn])
    if kind == "choice":
        # One answer alone is told right by whoever always gives it.
        judged &= _both(truth, known & parts.choose[:, None]) & _both(truth, judged)
    if not judged.any():
        return Score(np.nan, np.nan, np.nan, 0, len(seeds))
    if kind == "distance":
        where = np.nonzero(judged)
        errors = np.linalg.norm(predicted[where] - truth[where], axis=-1)
        sums = np.bincount(place[where[0]], errors, len(seeds))
        counts = np.bincount(place[where[0]], minlength=len(seeds))
        found = (draws @ sums) / np.maximum(draws @ counts, 1)
    else:
        rates = [
            _balanced(predicted[:, part, 0], truth[:, part, 0], known[:, part], parts, place, draws)
            for part in np.flatnonzero(judged.any(0))
        ]
        found = np.mean(rates, axis=0)
    low, high = np.nanpercentile(found[1:], (2.5, 97.5))
    return Score(float(found[0]), float(low), float(high), int(judged.sum()), len(seeds))


def _both(truth: Values, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of which parts (parts,) some pictures (N, parts) show yes as well as no."""
    yes, no = ((which & (truth[..., 0] == answer)).any(0) for answer in (1, 0))
    both: NDArray[np.bool_] = yes & no
    return both


def _balanced(
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    known: NDArray[np.bool_],
    parts: Split,
    place: NDArray[np.int64],
    draws: Values,
) -> Values:
    chosen = known & parts.choose
    yes, no = (predicted[chosen & (truth == answer)] for answer in (1, 0))
    says_yes = predicted > (yes.mean() + no.mean()) / 2
    if yes.mean() == no.mean():
        says_yes = np.zeros_like(says_yes)
    rates = []
    for answer in (1, 0):
        asked = known & parts.test & (truth == answer)
        right = asked & (says_yes == bool(answer))
        hits, tries = (
            draws @ np.bincount(place[which], minlength=draws.shape[1]) for which in (right, asked)
        )
        rates.append(np.divide(hits, tries, out=np.full(len(draws), np.nan), where=tries > 0))
    return np.asarray((rates[0] + rates[1]) / 2)
