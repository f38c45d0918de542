"""Numbers that are none: where a weight holds NaN or infinity."""

from collections.abc import Iterable

import torch
from torch import Tensor

_CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds NaN or infinity, or None.

    Args:
        tensors: names with tensors; those that are not of an ordinary floating precision pass.
    """
    return next(
        (
            name
            for name, tensor in tensors
            if tensor.dtype in _CHECKED and not torch.isfinite(tensor).all()
        ),
        None,
    )
