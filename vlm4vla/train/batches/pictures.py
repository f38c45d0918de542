"""A pool of labelled pictures in memory, drawn by several processes before training starts."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.files import replacing_folder
from vlm4vla.seeds import SELECT, TRAIN
from vlm4vla.train.synthetic.drawings import Item, Picture, draw_picture

_SAMPLED: Final = 64
"""Drawings that tell whether others are drawn alike; they take a third of a second."""


@dataclass(frozen=True)
class Pool:
    """N pictures: (N, 128, 128, 3) uint8, (N, 128, 128) int8, and the things of each."""

    images: NDArray[np.uint8]
    segmentations: NDArray[np.int8]
    items: tuple[tuple[Item, ...], ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Picture:
        return Picture(self.images[index], self.segmentations[index], self.items[index])


class ImageStore:
    """Pictures where a model can take them from: beside an accelerator's weights if they fit.

    Args:
        images: (N, H, W, 3) uint8 RGB, in memory or mapped.
    """

    _SHARE: Final = 0.3
    """Of an accelerator's free memory that pictures may take."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self._resident: Tensor | None = None

    def take(self, numbers: Tensor) -> Tensor:
        """The pictures (B, H, W, 3) of numbers (B,), on the numbers' device."""
        if numbers.device.type == "cuda" and self._resident is None:
            free, _ = torch.cuda.mem_get_info(numbers.device)
            if self.images.nbytes < self._SHARE * free:
                self._resident = torch.from_numpy(np.ascontiguousarray(self.images)).to(
                    numbers.device
                )
        if self._resident is not None:
            return self._resident[numbers]
        return torch.from_numpy(self.images[numbers.cpu().numpy()]).to(numbers.device)


def mirrored(picture: Picture) -> Picture:
    """The picture with left and right exchanged, which is as good a picture of other things."""
    return Picture(
        np.ascontiguousarray(picture.image[:, ::-1]),
        np.ascontiguousarray(picture.segmentation[:, ::-1]),
        tuple(replace(item, x=picture.image.shape[1] - item.x) for item in picture.items),
    )


def pool_of(pictures: Sequence[Picture]) -> Pool:
    """Stacks pictures."""
    return Pool(
        np.stack([picture.image for picture in pictures]),
        np.stack([picture.segmentation for picture in pictures]),
        tuple(picture.items for picture in pictures),
    )


def draw_pool(count: int, *, held_out: bool = False, workers: int = 0) -> Pool:
    """Draws the first `count` pictures of the training seeds, or of the selection seeds.

    Args:
        count: pictures.
        held_out: draw pictures that training never sees.
        workers: processes; 0 for one a core.
    """
    first = (SELECT if held_out else TRAIN).start
    workers = workers or os.cpu_count() or 1
    if count < 500 or workers == 1:
        return _draw(range(first, first + count))
    step = -(-count // (4 * workers))
    pieces = [
        range(start, min(start + step, first + count))
        for start in range(first, first + count, step)
    ]
    # A forked copy of a process that has used torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        drawn = list(executor.map(_draw, pieces))
    return Pool(
        np.concatenate([pool.images for pool in drawn]),
        np.concatenate([pool.segmentations for pool in drawn]),
        tuple(items for pool in drawn for items in pool.items),
    )


def kept_pool(folder: Path, count: int, workers: int = 0) -> Pool:
    """The training pictures of `draw_pool`, drawn once and then mapped from a folder.

    Args:
        folder: where they are kept, one folder in it for each count and each way of drawing.
        count: pictures.
        workers: see `draw_pool`.

    Raises:
        UserError: the folder cannot be written, or what is kept there is damaged.
    """
    kept = folder.absolute() / f"drawings-{count}-{_way_of_drawing(count)}"
    if not kept.is_dir():
        pool = draw_pool(count, workers=workers)
        with replacing_folder(kept) as new:
            np.save(new / "images.npy", pool.images)
            np.save(new / "segmentations.npy", pool.segmentations)
            (new / "items.json").write_text(_items_text(pool), "utf-8")
    try:
        items = json.loads((kept / "items.json").read_text("utf-8"))
        pool = Pool(
            np.load(kept / "images.npy", mmap_mode="r"),
            np.load(kept / "segmentations.npy", mmap_mode="r"),
            tuple(tuple(Item(*item) for item in picture) for picture in items),
        )
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UserError(
            f"The drawings in {kept} cannot be read: {error}.",
            "Delete that folder; they are drawn again.",
        ) from error
    return pool


def _way_of_drawing(count: int) -> str:
    """Eight hexadecimal digits of what the first drawings are now.

    Their seeds, the vocabulary and every version that draws go into the pictures; a list of all
    that would be incomplete some day.
    """
    pool = _draw(range(TRAIN.start, TRAIN.start + min(count, _SAMPLED)))
    found = hashlib.sha256(_items_text(pool).encode())
    found.update(pool.images.tobytes())
    found.update(pool.segmentations.tobytes())
    return found.hexdigest()[:8]


def _items_text(pool: Pool) -> str:
    return json.dumps([[astuple(item) for item in items] for items in pool.items])


def _draw(seeds: range) -> Pool:
    return pool_of([draw_picture(seed) for seed in seeds])
