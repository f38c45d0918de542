"""Pictures to pixels: resize and normalise, with torch alone, the same for every family."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm4vla.errors import UserError

FIRST_SIDE = 224
"""The paper resizes every frame to this side first, then to the size of the vision tower."""


def _resize(pictures: Tensor, side: int, rounded: bool) -> Tensor:
    """Bicubic with antialiasing in 0..255; if rounded, after each direction, as PIL does."""
    for size in ((pictures.shape[-2], side), (side, side)):
        if pictures.shape[-2:] != size:
            pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True)
            if rounded:
                pictures = pictures.round().clamp(0, 255)
    return pictures


def to_pixels(
    images: npt.NDArray[np.uint8] | Tensor,
    side: int,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]],
    device: torch.device,
) -> Tensor:
    """Prepares camera pictures for a vision tower (paper section "Images").

    Args:
        images: (B, H, W, 3) RGB; uint8, or floats in 0..255 where a gradient is wanted.
        side: side of the result; from 224 on, pictures pass through 224 first.
        mean_std: normalisation by channel of values in 0..1.
        device: where the result is wanted.

    Returns:
        float32 (B, 3, side, side).

    Raises:
        UserError: the pictures have another shape.
    """
    batch = torch.as_tensor(images)
    if batch.ndim != 4 or batch.shape[-1] != 3 or 0 in batch.shape:
        raise UserError(f"Pictures must be (batch, height, width, 3), not {tuple(batch.shape)}.")
    pictures = batch.to(device).permute(0, 3, 1, 2).float()
    whole = not batch.is_floating_point()
    if side >= FIRST_SIDE:
        pictures = _resize(pictures, FIRST_SIDE, whole)
    pictures = _resize(pictures, side, whole)
    mean, std = (
        torch.tensor(v, device=device, dtype=torch.float32).view(3, 1, 1) for v in mean_std
    )
    return (pictures / 255 - mean) / std
