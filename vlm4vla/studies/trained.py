"""What came out of a cell's training: checked against what the cell says, and kept beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from vlm4vla import paths
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.studies.cell import SINCE, Cell, Training, VlmStep, digest_of
from vlm4vla.studies.same_data import same_data

FILE: Final = "cell.json"
RUN: Final = "run"
CHECKPOINT: Final = "checkpoint"
VLM: Final = "vlm"


def folder_of(training: Training) -> Path:
    """Where everything of a cell is that its episodes do not hold; a step has a folder alike."""
    return paths.home() / "studies" / training.name


def checkpoint_of(cell: Cell) -> Path:
    """The cell's policy."""
    return folder_of(cell) / RUN / CHECKPOINT


def begun(cell: Cell) -> bool:
    """Whether a cell's training was begun here, or that of its step was and is not over."""
    if cell.step is not None:
        run = folder_of(cell.step) / RUN
        if run.is_dir() and not (run / VLM).is_dir():
            return True
    return (folder_of(cell) / RUN).is_dir()


def account(cell: Cell, agent: str = "") -> dict[str, Any] | None:
    """What is known about a cell's training: of one that ran here, else of the shipped one.

    Args:
        cell: the cell.
        agent: digest of the policy that is meant, where two machines trained one each; "" for any.

    Returns:
        See `check_trained`; None where nothing is known.
    """
    for file in (folder_of(cell) / FILE, SHIPPED / "cells" / f"{cell.name}.json"):
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        known = found if isinstance(found, dict) else {}
        if known.get("name") == cell.name and agent in ("", known.get("agent")):
            return found
    return None


def vlm_of(cell: Cell, known: Mapping[str, Any]) -> str:
    """Digest of the VLM that a cell's training started from; "" where that is not known.

    The name of a step fixes how its VLM is made, and not what another machine made of it.

    Args:
        cell: the cell.
        known: its account.
    """
    return str(known.get("step", {}).get("weights", "")) if cell.step else cell.start.digest


def check_step(step: VlmStep, run: Path) -> dict[str, Any]:
    """Sees to it that a run made the VLM that its step says.

    Args:
        step: the step.
        run: the folder of a finished run.

    Returns:
        "name", "data" (fingerprint of what it learned from), "step", "figures" (on frames of unseen
        scenes), "weights" (their digest) and "command".

    Raises:
        UserError: it made something else, or it is not whole.
    """
    wanted = {"groups": list(step.groups), "shuffled": step.shuffled}
    data = _check_recipe(step, run, wanted)
    return {
        "name": step.name,
        "data": data,
        "step": json.loads(json.dumps(asdict(step))),
        "figures": _read(run / "tokens.json"),
        "weights": digest_of(run / VLM),
        "command": _read(run / VLM / "training.json")[-1]["command"],
    }


def check_trained(
    cell: Cell, run: Path, label: str, step: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Sees to it that a run trained what its cell says, parameter by parameter.

    Args:
        cell: the cell.
        run: the folder of a finished run.
        label: what the cell is called.
        step: what `check_step` found; None for a cell without one.

    Returns:
        "name", "label", "cell", "data" (fingerprint of what it learned from), "trained" (names of
        the parameters that learned), "parameters" (by freeze group: how many there are, and how
        many of them learned), "figures" (on frames of unseen scenes), "agent" (digest of the
        policy), "command", and "step" where there is one.

    Raises:
        UserError: it trained something else, or it is not whole.
    """
    from vlm4vla.model.checkpoint import checkpoint_hash, verify  # takes seconds: torch

    manifest = verify(run / CHECKPOINT)
    data = _check_recipe(cell, run)
    sizes: Mapping[str, Mapping[str, int]] = manifest["parameters"]
    for group, size in sizes.items():
        if size["trainable"] != (size["parameters"] if group in cell.groups else 0):
            raise UserError(
                f"In {run}, {size['trainable']} of {size['parameters']} parameters of the group "
                f"{group} learned, and the cell {cell.name} trains {', '.join(cell.groups)}.",
                "Remove the folder and run the cell again.",
            )
    return {
        "name": cell.name,
        "label": label,
        "cell": json.loads(json.dumps(asdict(cell))),
        "data": data,
        "trained": manifest["trainable"],
        "parameters": sizes,
        "figures": _read(run / "imitation.json"),
        "agent": checkpoint_hash(run / CHECKPOINT),
        "command": manifest["command"],
        **({"step": step} if step else {}),
    }


def keep_account(cell: Cell, found: Mapping[str, Any]) -> None:
    """Writes what `check_trained` found beside the cell's run."""
    write_json(folder_of(cell) / FILE, found)


def _check_recipe(training: Training, run: Path, more: Mapping[str, Any] | None = None) -> str:
    """Refuses a run of another recipe; returns the fingerprint of the frames it learned from."""
    recipe = _read(run / "recipe.json")
    wanted = {**training.constants, "seed": training.seed, "tasks": list(training.tasks)}
    wanted |= more or {}
    other = [name for name, value in wanted.items() if recipe.get(name) != value]
    other += [name for name, value in SINCE.items() if recipe.get(name, value) != value]
    data = str(recipe.get("data"))
    if not same_data(data, str(recipe.get("asked")), training.data):
        other.append("data")
    if other:
        raise UserError(
            f"{run} was trained with another {', '.join(sorted(other))} than {training.name} says.",
            "Remove the folder and run the cell again.",
        )
    return data


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {error}.", "Remove its folder and run the cell again."
        ) from error
