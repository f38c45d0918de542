"""Pictures to pixels: resize and normalise, with torch alone, the same for every family."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image
from torch import Tensor

from vlm4vla.errors import UserError

Picture: TypeAlias = npt.NDArray[Any] | Tensor | Image.Image
Images: TypeAlias = Picture | Sequence[Picture]

FIRST_SIDE = 224
"""The paper resizes every frame to this side first, then to the size of the vision tower."""

_PLAIN_MODES = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "HSV", "LAB")
"""PIL's modes of 8-bit colours; the others have transparency or another depth."""

_SLACK = 1e-6
"""What rounding may add to a float picture."""


def _resize(pictures: Tensor, side: int, rounded: bool) -> Tensor:
    """Bicubic with antialiasing in 0..255; if rounded, after each direction, as PIL does."""
    for size in ((pictures.shape[-2], side), (side, side)):
        if pictures.shape[-2:] != size:
            pictures = F.interpolate(pictures, size, mode="bicubic", antialias=True)
            # Bicubic overshoots at edges.
            pictures = (pictures.round() if rounded else pictures).clamp(0, 255)
    return pictures


def to_pixels(
    images: Images,
    side: int,
    mean_std: tuple[tuple[float, ...], tuple[float, ...]],
    device: torch.device,
) -> Tensor:
    """Prepares camera pictures for a vision tower (paper section "Images").

    Args:
        images: RGB, as an array or tensor (B, H, W, 3) or (H, W, 3), a PIL picture, or a list of
            any of these, which may differ in size. uint8 means 0..255 and floats mean 0..1, always;
            nothing is guessed from the values. Gradients flow into floats, which are not rounded
            to whole levels on the way, so they may end a level or two beside the same uint8.
        side: side of the result; from 224 on, pictures pass through 224 first.
        mean_std: normalisation by channel of values in 0..1.
        device: where the result is wanted.

    Returns:
        float32 (B, 3, side, side).

    Raises:
        UserError: there is no picture, or one has another shape, type or range.
    """
    prepared = []
    for batch in _batches(images):
        whole = batch.dtype == torch.uint8
        pictures = batch.to(device).permute(0, 3, 1, 2).float()
        if not whole:
            pictures = pictures * 255
        if side >= FIRST_SIDE:
            pictures = _resize(pictures, FIRST_SIDE, whole)
        prepared.append(_resize(pictures, side, whole))
    mean, std = (
        torch.tensor(v, device=device, dtype=torch.float32).view(3, 1, 1) for v in mean_std
    )
    return (torch.cat(prepared) / 255 - mean) / std


def _batches(images: Images) -> Iterator[Tensor]:
    """Checked (B, H, W, 3) tensors, uint8 or float."""
    if not isinstance(images, (np.ndarray, Tensor, Image.Image, list, tuple)):
        raise UserError(f"A picture must be an array or a PIL picture, not {_kind(images)}.")
    several = images if isinstance(images, (list, tuple)) else [images]
    if not several:
        raise UserError("There is no picture.")
    for one in several:
        batch = _tensor(one)
        shape = tuple(batch.shape)
        if batch.ndim == 3:
            batch = batch[None]
        if batch.ndim != 4 or batch.shape[-1] != 3 or 0 in batch.shape:
            first = batch.ndim == 4 and batch.shape[1] == 3
            raise UserError(
                f"Pictures must be RGB and not empty, (batch, height, width, 3), not {shape}.",
                "Their colours come first: move that axis to the end." if first else "",
            )
        if batch.dtype != torch.uint8:
            _check_range(batch.detach())
        yield batch


def _tensor(picture: Any) -> Tensor:
    if isinstance(picture, Image.Image):
        return torch.from_numpy(_decoded(picture))
    if isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 and not picture.is_floating_point():
            raise _wrong_type(picture)
        if picture.layout != torch.strided or picture.is_meta:
            raise UserError("A picture must have all its numbers; a sparse or meta tensor has not.")
        return picture
    if not isinstance(picture, np.ndarray):
        raise UserError(f"A picture must be an array or a PIL picture, not {_kind(picture)}.")
    if isinstance(picture, np.ma.MaskedArray):
        raise UserError(
            "A masked array says that some of a picture is not valid.",
            "Give picture.filled(...), after deciding what stands there.",
        )
    if picture.dtype == np.uint8:
        # torch takes neither negative strides nor memory that may not be written.
        plain = picture.flags.writeable and min(picture.strides, default=0) >= 0
        return torch.from_numpy(picture if plain else picture.copy())
    if picture.dtype.kind != "f":
        raise _wrong_type(picture)
    return torch.from_numpy(np.array(picture, dtype=np.float32))


def _decoded(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """A PIL picture as (H, W, 3), where that is the whole of it."""
    try:
        # What a file says of its picture may come after the picture.
        picture.load()
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"A PIL picture cannot be read: {str(error).rstrip('.')}.") from error
    if picture.mode not in _PLAIN_MODES or "transparency" in picture.info:
        clear = " and transparency" if picture.mode in _PLAIN_MODES else ""
        raise UserError(
            f"A PIL picture of the mode {picture.mode!r}{clear} is not one of 8-bit colours alone.",
            'Give picture.convert("RGBA").convert("RGB"), or decide what becomes of the rest.',
        )
    if turned in range(2, 9):
        raise UserError(
            "A PIL picture is to be turned or mirrored, by its EXIF orientation.",
            "Give PIL.ImageOps.exif_transpose(picture).",
        )
    return np.array(picture.convert("RGB"))


def _check_range(batch: Tensor) -> None:
    low, high = (float(value) for value in batch.float().aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        found = "NaN" if low != low else f"{low:.6g}..{high:.6g}"
        raise UserError(
            f"Float pictures must be within 0..1, not {found}.", "Scale them, or give uint8 0..255."
        )


def _wrong_type(picture: Any) -> UserError:
    kind = str(picture.dtype).removeprefix("torch.")
    return UserError(
        f"Pictures must be uint8 0..255 or floats 0..1, not {kind}.", "Convert them first."
    )


def _kind(value: object) -> str:
    return type(value).__name__
