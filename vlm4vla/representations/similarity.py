"""Linear CKA between layers, from debiased HSIC (Kornblith et al. 2019; Nguyen et al. 2021)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Gram = NDArray[np.float64]


def gram(values: NDArray[Any]) -> Gram:
    """Inner products (N, N) of N rows of centred features.

    Args:
        values: (N, ...); what a row holds is taken as one vector.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    flat -= flat.mean(0)
    return flat @ flat.T


def hsic(one: Gram, other: Gram) -> float:
    """The unbiased estimate of HSIC (Song et al. 2012, equation 5) of two kernels.

    Args:
        one: (N, N), N at least 4.
        other: (N, N), over the same rows.
    """
    n = len(one)
    k, q = one - np.diag(np.diag(one)), other - np.diag(np.diag(other))
    rows_k, rows_q = k.sum(1), q.sum(1)
    total = rows_k.sum() * rows_q.sum() / ((n - 1) * (n - 2)) - 2 * (rows_k @ rows_q) / (n - 2)
    return float(((k * q).sum() + total) / (n * (n - 3)))


def cka(first: Sequence[Gram], second: Sequence[Gram]) -> NDArray[np.float64]:
    """Linear CKA (a, b) of every layer of one encoder with every layer of another.

    1 for features that a rotation and a scale turn into each other; about 0, and below as often as
    above, for unrelated ones. NaN where a layer says nothing of its input.

    Args:
        first: a kernels of `gram`.
        second: b kernels, over the same pictures.
    """
    own_a, own_b = ([hsic(one, one) for one in layers] for layers in (first, second))
    values = np.full((len(first), len(second)), np.nan)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            if own_a[i] > 0 and own_b[j] > 0:
                values[i, j] = hsic(one, other) / np.sqrt(own_a[i] * own_b[j])
    return values
