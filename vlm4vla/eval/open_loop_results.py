"""What `vlm4vla openloop` and `vlm4vla distance` found, as shipped files; needs no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.errors import UserError

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "results"

ERRORS: Final = "open-loop"
"""Open-loop errors."""
DISTANCE: Final = "picture-distance"
"""Distances of rollout pictures from training pictures."""


def file_name(policy: str, kind: str = ERRORS) -> str:
    """Of a policy's results."""
    return f"{kind}-{policy}.json"


def read_results(folder: Path = SHIPPED, kind: str = ERRORS) -> list[Mapping[str, Any]]:
    """The results of every policy in a folder, by name.

    Args:
        folder: where they are.
        kind: `ERRORS` or `DISTANCE`.

    Raises:
        UserError: a file is damaged.
    """
    found = []
    for path in sorted(folder.glob(f"{kind}-*.json")):
        try:
            found.append(json.loads(path.read_text("utf-8")))
        except ValueError as error:
            raise UserError(f"{path.name} is no JSON.", "Make it again, or remove it.") from error
    return found
