"""The whole state of a run on disk: tensors in safetensors, the rest in JSON, replaced at once."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlm4vla.errors import UserError

_FOLDER = re.compile(r"state-(\d{8})")


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
    """Writes a state beside the last one, then removes that one.

    A folder gets its final name only when its files are on disk, so a kill at any moment leaves
    at least one whole state.

    Raises:
        UserError: the disk is full or not writable.
    """
    final = run / f"state-{state.step:08d}"
    half = run / f".{final.name}.half"
    try:
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        save_file(tensors, half / "tensors.safetensors")
        facts = {"step": state.step, **state.facts}
        (half / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        for path in (half / "tensors.safetensors", half / "facts.json", half):
            _to_disk(path)
        if final.exists():
            shutil.rmtree(final)
        os.replace(half, final)
        _to_disk(run)
    except OSError as error:
        raise UserError(
            f"Could not write {final}: {error.strerror or error}.",
            "Free some disk space; the state before it is intact.",
        ) from error
    for _, folder in _folders(run)[:-1]:
        shutil.rmtree(folder)


def load_state(run: Path) -> TrainingState | None:
    """The newest whole state of a run, or None if there is none."""
    folders = _folders(run)
    if not folders:
        return None
    step, folder = folders[-1]
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    if facts.pop("step") != step:
        raise UserError(f"{folder} holds another step than its name says.", "Delete that folder.")
    return TrainingState(step, load_file(folder / "tensors.safetensors"), facts)


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


def _folders(run: Path) -> list[tuple[int, Path]]:
    if not run.is_dir():
        return []
    matches = ((_FOLDER.fullmatch(path.name), path) for path in run.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
