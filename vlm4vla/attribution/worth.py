"""What is measured of a map's worth, from the trust tables that come with the project; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.attribution.trust_results import SHIPPED, read_trust

NOT_MEASURED: Final = "Worth not measured for this checkpoint."

_WHEN: Final = {"first": "at the start", "parting": "where it leaves the expert"}


def worth(digest: str, method: str, target: str, folder: Path = SHIPPED) -> str:
    """The measured worth of a method's maps for a checkpoint, as a sentence.

    Args:
        digest: of the checkpoint, see `vlm4vla.model.checkpoint.checkpoint_hash`.
        method: one of `vlm4vla.attribution.names.METHODS`.
        target: one of `vlm4vla.attribution.names.TARGETS`.
        folder: of the tables that `vlm4vla trust` wrote.

    Returns:
        `NOT_MEASURED` where no table covers the three.
    """
    rows = [
        row
        for table in read_trust(folder)
        if table.digest == digest
        for row in table.rows
        if row["method"] == method and row["target"] == target and row["n"]
    ]
    if not rows:
        return NOT_MEASURED
    against = [f"{said} {_WHEN[row['when']]}" for row in rows for said in row["against"]]
    return (
        f"Worth, measured for this checkpoint: infidelity {' and '.join(map(_told, rows))} (1 "
        f"foretells nothing); against it: {', '.join(against) or 'nothing'}."
    )


def _told(row: Mapping[str, Any]) -> str:
    missed = row["infidelity"]
    return (
        f"{missed['mean']:.2f} (95 % {missed['low']:.2f} to {missed['high']:.2f}, n = {row['n']}) "
        f"{_WHEN[row['when']]}"
    )
