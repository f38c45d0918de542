"""The whole state of a run on disk: tensors in safetensors, the rest in JSON, replaced at once."""

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.files import json_text, replacing_folder, sha256_of

_FOLDER = re.compile(r"state-(\d{8})")
_TENSORS: Final = "tensors.safetensors"
_FACTS: Final = "facts.json"

_SHA256: Final = "sha256"
"""The fact that is the checksum of the tensors' file, in hexadecimal digits."""

_LARGE: Final = 10**9
"""Bytes from which on tensors have no checksum: it costs 1.2 s a gigabyte of one core, at each save
and again at each load, and states of 8 billion weights have a hundred."""


_LATEST: Final = 300.0
"""Seconds of learning that a killed run loses at most, unless saving is dear."""

_DEAR: Final = 20.0
"""Times a save's own seconds that pass before the clock asks for the next one."""


class Saves:
    """When a run's state is due: after so many steps, and by the clock for slow ones.

    Args:
        every: steps between saved states.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.next = time.monotonic() + _LATEST

    def due(self, done: int) -> bool:
        """Whether to save after so many steps."""
        return done % self.every == 0 or time.monotonic() >= self.next

    def save(self, run: Path, state: "TrainingState") -> None:
        """Saves it, as `save_state` does, and sets the clock anew."""
        began = time.monotonic()
        save_state(run, state)
        saved = time.monotonic()
        self.next = saved + max(_LATEST, _DEAR * (saved - began))


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        step: optimiser steps done.
        tensors: weights, their averages, buffers, the optimiser's moments, random number states.
        facts: everything that is not a tensor and fits JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save_state(run: Path, state: TrainingState) -> None:
    """Writes a state beside the last one, then removes that one and what killed saves left.

    A folder gets its final name only when its files are on disk, so a kill at any moment leaves
    at least one whole state. One process at a time may do this in a run's folder. Tensors of less
    than a gigabyte get a checksum; in larger ones a changed bit goes unnoticed.

    Raises:
        UserError: the disk is full or not writable; the state before it is intact.
    """
    with replacing_folder(_folder(run, state.step)) as new:
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, new / _TENSORS)
        facts = {"step": state.step, **state.facts}
        if (new / _TENSORS).stat().st_size < _LARGE:
            facts[_SHA256] = sha256_of(new / _TENSORS)
        (new / _FACTS).write_text(json_text(facts), "utf-8")
    for _, folder in _folders(run)[:-1]:
        shutil.rmtree(folder)
    for left in run.glob(".state-*"):
        shutil.rmtree(left)


def load_state(run: Path) -> TrainingState | None:
    """The newest whole state of a run, or None if there is none.

    Raises:
        UserError: a file of it is missing or damaged, or the tensors are not those of its checksum.
    """
    folders = _folders(run)
    if not folders:
        return None
    step, folder = folders[-1]
    facts = _facts(folder / _FACTS)
    if facts.pop("step", None) != step:
        raise UserError(f"{folder} holds another step than its name says.", _remedy(folder))
    # States of earlier versions have none, nor have large ones.
    saved = facts.pop(_SHA256, None)
    try:
        if saved is not None and sha256_of(folder / _TENSORS) != saved:
            raise SafetensorError("its content is not what was saved")
        tensors = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise _damaged(folder / _TENSORS, error) from error
    return TrainingState(step, tensors, facts)


def lacking(run: Path, step: int, what: str) -> UserError:
    """What to say of the state after `step` steps if it holds no `what`."""
    folder = _folder(run, step)
    return UserError(f"The snapshot {folder} lacks {what}.", _remedy(folder))


def _facts(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error).rstrip(".")
    return UserError(
        f"The snapshot {path} cannot be read: {reason}.",
        _remedy(path.parent),
    )


def _remedy(folder: Path) -> str:
    # There is one only where a save was killed before it removed it.
    older = [other.name for _, other in _folders(folder.parent) if other.name < folder.name]
    then = f"goes on from {older[-1]}" if older else "begins anew"
    return f"Delete {folder}; the run then {then}."


def random_state() -> dict[str, Tensor]:
    """The states of this process's random number generators in torch.

    Of several processes the first one saves its own, and all go on with them. Where each draws for
    itself, as dropout does, the others do not go on exactly: what another device's generator gave
    in its own process is known there alone.
    """
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random/cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_state(tensors: Mapping[str, Tensor]) -> None:
    """Puts the states of `random_state` back, of accelerators to as many as there are here."""
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available():
        names = (f"random/cuda{i}" for i in range(torch.cuda.device_count()))
        torch.cuda.set_rng_state_all([tensors[name] for name in names if name in tensors])


def _folder(run: Path, step: int) -> Path:
    return run / f"state-{step:08d}"


def _folders(run: Path) -> list[tuple[int, Path]]:
    if not run.is_dir():
        return []
    matches = ((_FOLDER.fullmatch(path.name), path) for path in run.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)
