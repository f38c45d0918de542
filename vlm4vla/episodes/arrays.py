"""An episode's arrays as one compressed blob, bit for bit.

Float32 values are taken as whole numbers of 32 bits. What a chunk predicted is stored as the
difference to what was executed, which is nothing for the actions that were carried out, and every
array as the difference to the row before. Then the four bytes of all values are put into four
planes, whose upper ones hardly change, and deflated.
"""

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlm4vla.core.episode import Episode, Prediction, Trace
from vlm4vla.core.observation import Array

_FORMAT: Final = b"\x01"
"""First byte of every blob: how the rest is to be read."""

_LEVEL: Final = 6

_Bits = NDArray[np.uint32]


class Arrays(NamedTuple):
    """The arrays of an episode; see `vlm4vla.core.episode.Episode`."""

    actions: Array
    predictions: tuple[Prediction, ...]
    trace: Trace


NO_ARRAYS: Final = Arrays(np.zeros((0, 0), np.float32), (), Trace.empty())
"""Those of an episode of which only the row is known."""


def pack(episode: Episode) -> bytes:
    """The arrays of an episode as a blob."""
    actions = _bits(episode.actions)
    chunks = [_bits(one.chunk) for one in episode.predictions]
    whole = [actions, _bits(episode.trace.joints), _bits(episode.trace.poses)]
    head = {
        "shapes": [list(array.shape) for array in whole],
        "steps": [one.step for one in episode.predictions],
        "chunks": [list(chunk.shape) for chunk in chunks],
    }
    ahead = [
        chunk - _executed(actions, one.step, chunk.shape)
        for one, chunk in zip(episode.predictions, chunks, strict=True)
    ]
    flat = [_differences(array).ravel() for array in whole] + [chunk.ravel() for chunk in ahead]
    planes = np.concatenate(flat).astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    text = json.dumps(head, separators=(",", ":")).encode()
    return _FORMAT + zlib.compress(text + b"\n" + planes, _LEVEL)


def unpack(blob: bytes) -> Arrays:
    """The arrays of a blob of `pack`.

    Raises:
        ValueError: it is damaged, or was written by a newer version.
    """
    if blob[:1] != _FORMAT:
        raise ValueError(f"unknown format {blob[:1]!r}")
    try:
        text, planes = zlib.decompress(blob[1:]).split(b"\n", 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    head = json.loads(text)
    values = np.frombuffer(planes, np.uint8).reshape(4, -1).T.copy().view("<u4").ravel()
    parts = _cut(values.astype(np.uint32), [*head["shapes"], *head["chunks"]])
    actions, joints, poses = (np.cumsum(part, axis=0, dtype=np.uint32) for part in parts[:3])
    predictions = tuple(
        Prediction(step, _floats(part + _executed(actions, step, part.shape)))
        for step, part in zip(head["steps"], parts[3:], strict=True)
    )
    return Arrays(_floats(actions), predictions, Trace(_floats(joints), _floats(poses)))


def _bits(array: Array) -> _Bits:
    return np.ascontiguousarray(array, np.float32).view(np.uint32)


def _floats(bits: _Bits) -> Array:
    return bits.view(np.float32)


def _differences(array: _Bits) -> _Bits:
    rows = array.copy()
    rows[1:] -= array[:-1]
    return rows


def _executed(actions: _Bits, step: int, shape: Sequence[int]) -> _Bits:
    """What was carried out while a chunk lasted, filled up with zeros to the chunk's shape."""
    filled = np.zeros(tuple(shape), np.uint32)
    if actions.shape[1:] == filled.shape[1:]:
        done = actions[step : step + len(filled)]
        filled[: len(done)] = done
    return filled


def _cut(values: _Bits, shapes: Sequence[Sequence[Any]]) -> list[_Bits]:
    parts, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        parts.append(values[start : start + size].reshape(tuple(shape)))
        start += size
    return parts
