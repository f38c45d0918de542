"""What `vlm4vla openloop` found, as files that come with the project; needs no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.errors import UserError

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "results"

_PREFIX: Final = "open-loop-"


def file_name(policy: str) -> str:
    """Of a policy's results."""
    return f"{_PREFIX}{policy}.json"


def read_results(folder: Path = SHIPPED) -> list[Mapping[str, Any]]:
    """The results of every policy in a folder, by name.

    Raises:
        UserError: a file is damaged.
    """
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        try:
            found.append(json.loads(path.read_text("utf-8")))
        except ValueError as error:
            raise UserError(f"{path.name} is no JSON.", "Run `vlm4vla openloop` again.") from error
    return found
