"""Linear probes: ridge regression in closed form, its penalty chosen on other scenes."""

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm4vla.representations.pictures import Split, Values

PENALTIES: Final = tuple(10.0**power for power in range(-4, 5))
"""Tried penalties, in units of the mean squared length of a picture's features."""


def kernel(features: NDArray[Any], fit: NDArray[np.bool_]) -> Values:
    """Inner products (N, N) of features, standardised by the pictures that are fitted to.

    Their mean over the features that vary, so its diagonal is about 1 whatever the layer's width.

    Args:
        features: (N, ...); what a picture has is taken as one vector.
        fit: (N,) whose mean and deviation count.
    """
    flat = features.reshape(len(features), -1).astype(np.float32)
    mean, deviation = flat[fit].mean(0), flat[fit].std(0)
    varies = deviation > 1e-6 * max(1e-12, float(np.abs(flat).max()))
    flat = (flat[:, varies] - mean[varies]) / deviation[varies]
    return (flat @ flat.T / max(1, flat.shape[1])).astype(np.float64)


def ridge(
    products: Values, truth: Values, fit: NDArray[np.bool_], penalties: tuple[float, ...]
) -> Values:
    """Predictions (penalties, N, dimensions) of ridge regressions with an intercept.

    Args:
        products: (N, N) inner products of features.
        truth: (N, dimensions); only rows of `fit` are looked at.
        fit: (N,) which pictures are fitted to.
        penalties: times the identity, beside a kernel of `kernel`, summed over the pictures.
    """
    inner, outer = products[np.ix_(fit, fit)], products[:, fit]
    column = inner.mean(0)
    # Centred by the fitted pictures: that is the intercept.
    inner_centred = inner - column - column[:, None] + column.mean()
    outer_centred = outer - column - outer.mean(1, keepdims=True) + column.mean()
    mean = truth[fit].mean(0)
    values, vectors = np.linalg.eigh(inner_centred)
    turned = vectors.T @ (truth[fit] - mean)
    seen = outer_centred @ vectors
    scale = np.maximum(values, 0)[None] + len(inner) * np.array(penalties)[:, None]
    return np.stack([seen @ (turned / one[:, None]) + mean for one in scale])


def linear_probes(
    products: Values, truth: Mapping[str, Values], parts: Split, choices: Collection[str]
) -> dict[str, Values]:
    """Predictions (N, parts, dimensions) by target, of one linear probe a part.

    Args:
        products: see `kernel`.
        truth: by target, (N, parts, dimensions); NaN where a picture has no such part.
        parts: which pictures are for what.
        choices: targets whose truth is yes or no.
    """
    found = {name: np.full(values.shape, np.nan) for name, values in truth.items()}
    alike: dict[bytes, list[tuple[str, int]]] = {}
    for name, values in truth.items():
        for part in range(values.shape[1]):
            known = ~np.isnan(values[:, part]).any(1)
            if (known & parts.fit).sum() > 1 and (known & parts.choose).any():
                alike.setdefault(known.tobytes(), []).append((name, part))
    # What is told of the same pictures shares the costly decomposition of their kernel.
    for mask, members in alike.items():
        known = np.frombuffer(mask, np.bool_)
        columns = [truth[name][:, part] for name, part in members]
        every = ridge(products, np.concatenate(columns, 1), known & parts.fit, PENALTIES)
        ends = np.cumsum([column.shape[1] for column in columns])[:-1]
        told = np.split(every, ends, axis=2)
        judged = known & parts.choose
        for (name, part), column, several in zip(members, columns, told, strict=True):
            wrong = [_loss(one[judged], column[judged], name in choices) for one in several]
            found[name][:, part] = several[int(np.argmin(wrong))]
    return found


def _loss(predicted: Values, truth: Values, choice: bool) -> float:
    if choice:
        return float(((predicted - truth) ** 2).mean())
    return float(np.linalg.norm(predicted - truth, axis=-1).mean())
