"""The whole state of a run on disk: tensors in safetensors, the rest in JSON, replaced at once."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm4vla.errors import UserError
from vlm4vla.files import json_text, replacing_folder

_FOLDER = re.compile(r"state-(\d{8})")
_TENSORS: Final = "tensors.safetensors"
_FACTS: Final = "facts.json"


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        step: optimiser steps done.
        tensors: weights, their averages, the optimiser's moments, random number states.
        facts: everything that is not a tensor and fits JSON.
    """

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save_state(run: Path, state: TrainingState) -> None:
    """Writes a state beside the last one, then removes that one and what killed saves left.

    A folder gets its final name only when its files are on disk, so a kill at any moment leaves
    at least one whole state. One process at a time may do this in a run's folder.

    Raises:
        UserError: the disk is full or not writable; the state before it is intact.
    """
    with replacing_folder(_folder(run, state.step)) as new:
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, new / _TENSORS)
        (new / _FACTS).write_text(json_text({"step": state.step, **state.facts}), "utf-8")
    for _, folder in _folders(run)[:-1]:
        shutil.rmtree(folder)
    for left in run.glob(".state-*"):
        shutil.rmtree(left)


def load_state(run: Path) -> TrainingState | None:
    """The newest whole state of a run, or None if there is none.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    folders = _folders(run)
    if not folders:
        return None
    step, folder = folders[-1]
    facts = _facts(folder / _FACTS)
    if facts.pop("step", None) != step:
        raise UserError(f"{folder} holds another step than its name says.", _remedy(folder))
    try:
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
    return f"Delete {folder}; the run then goes on from the snapshot before it, or begins anew."


def random_state() -> dict[str, Tensor]:
    """The states of torch's random number generators."""
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"random/cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_state(tensors: Mapping[str, Tensor]) -> None:
    """Puts the states of `random_state` back."""
    torch.set_rng_state(tensors["random/cpu"])
    devices = [tensors[name] for name in sorted(tensors) if name.startswith("random/cuda")]
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(devices)


def _folder(run: Path, step: int) -> Path:
    return run / f"state-{step:08d}"


def _folders(run: Path) -> list[tuple[int, Path]]:
    if not run.is_dir():
        return []
    matches = ((_FOLDER.fullmatch(path.name), path) for path in run.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)
