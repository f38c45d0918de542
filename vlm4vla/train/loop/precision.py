"""The precision that training and measuring compute in."""

from contextlib import AbstractContextManager
from typing import Literal

import torch


def precision() -> Literal["bf16", "no"]:
    """Bf16 autocast where the hardware has bf16 matrix products, else none."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """The precision that training computes in, for measuring."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, torch.bfloat16, enabled=precision() == "bf16"
    )
    return context
