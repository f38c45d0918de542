"""The paper's numbers: what it found where a study here asks the same."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).parents[2] / "assets" / "paper_results.json"

_RECORDS: Final = {
    "from scratch": ("scratch", "random init (from scratch)"),
    "vision frozen": ("freeze", "freeze vision encoder"),
    "embeddings frozen": ("freeze", "freeze word embedding"),
}
"""Table and setting of a contrast's numbers."""


class Reported(NamedTuple):
    """A difference that the paper reports.

    Attributes:
        model: of which VLM.
        benchmark: where.
        delta: from the VLM that is wholly trained, in the benchmark's own unit.
        source: table or figure.
        confidence: see the file's own "confidence".
    """

    model: str
    benchmark: str
    delta: float
    source: str
    confidence: str


@cache
def records() -> tuple[dict[str, Any], ...]:
    """Every number, as the file has it."""
    return tuple(json.loads(FILE.read_text("utf-8"))["records"])


def reported(contrast: str) -> list[Reported]:
    """The differences that the paper reports on a contrast; none for one that it did not make.

    Args:
        contrast: see `vlm4vla.studies.study.Contrast.paper`.
    """
    if contrast not in _RECORDS:
        return []
    table, setting = _RECORDS[contrast]
    return [
        Reported(*(one[name] for name in Reported._fields))
        for one in records()
        if (one["table"], one["setting"]) == (table, setting)
    ]


def direction(found: list[Reported]) -> str:
    """Where all of some differences point: "lower", "higher", "mixed", or "" for none."""
    signs = {(one.delta > 0) - (one.delta < 0) for one in found}
    if not signs:
        return ""
    return {frozenset({-1}): "lower", frozenset({1}): "higher"}.get(frozenset(signs), "mixed")
