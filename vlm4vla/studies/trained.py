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
from vlm4vla.studies.cell import Cell

FILE: Final = "cell.json"
RUN: Final = "run"
CHECKPOINT: Final = "checkpoint"

_UNCHANGING: Final = ("seed", "data")
"""What a run writes beside its constants, under the cell's own names for it."""


def folder_of(cell: Cell) -> Path:
    """Where everything of a cell is that its episodes do not hold."""
    return paths.home() / "studies" / cell.name


def checkpoint_of(cell: Cell) -> Path:
    """The cell's policy."""
    return folder_of(cell) / RUN / CHECKPOINT


def begun(cell: Cell) -> bool:
    """Whether a training was begun here."""
    return (folder_of(cell) / RUN).is_dir()


def account(cell: Cell) -> dict[str, Any] | None:
    """What is known about a cell's training: of one that ran here, else of the shipped one.

    Returns:
        See `check_trained`; None where nothing is known.
    """
    for file in (folder_of(cell) / FILE, SHIPPED / "cells" / f"{cell.name}.json"):
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("name") == cell.name:
            return found
    return None


def check_trained(cell: Cell, run: Path, label: str) -> dict[str, Any]:
    """Sees to it that a run trained what its cell says, parameter by parameter.

    Args:
        cell: the cell.
        run: the folder of a finished run.
        label: what the cell is called.

    Returns:
        "name", "label", "cell", "trained" (names of the parameters that learned), "parameters"
        (by freeze group: how many there are, and how many of them learned), "figures" (on frames of
        unseen scenes), "agent" (digest of the policy) and "command".

    Raises:
        UserError: it trained something else, or it is not whole.
    """
    from vlm4vla.model.checkpoint import checkpoint_hash, verify  # takes seconds: torch

    manifest = verify(run / CHECKPOINT)
    recipe = _read(run / "recipe.json")
    wanted = {**cell.constants, **{name: getattr(cell, name) for name in _UNCHANGING}}
    wanted["tasks"] = list(cell.tasks)
    if other := sorted(name for name, value in wanted.items() if recipe.get(name) != value):
        raise UserError(
            f"{run} was trained with another {', '.join(other)} than the cell {cell.name} says.",
            "Remove the folder and run the cell again.",
        )
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
        "trained": manifest["trainable"],
        "parameters": sizes,
        "figures": _read(run / "imitation.json"),
        "agent": checkpoint_hash(run / CHECKPOINT),
        "command": manifest["command"],
    }


def keep_account(cell: Cell, found: Mapping[str, Any]) -> None:
    """Writes what `check_trained` found beside the cell's run."""
    write_json(folder_of(cell) / FILE, found)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read: {error}.", "Remove its folder and run the cell again."
        ) from error
    return dict(found)
