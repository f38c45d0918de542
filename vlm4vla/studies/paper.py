"""The paper's numbers: what it found where a study here asks the same."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla.studies.study import LANGUAGE, WHOLE, after

FILE: Final = Path(__file__).parents[2] / "assets" / "paper_results.json"

_VISION: Final = "downstream_vision_encoder"

_RECORDS: Final[dict[str, dict[str, str]]] = {
    "from scratch": {"table": "scratch", "setting": "random init (from scratch)"},
    "vision frozen": {"table": "freeze", "setting": "freeze vision encoder"},
    "embeddings frozen": {"table": "freeze", "setting": "freeze word embedding"},
} | {
    after(step, downstream): {"table": "injection", "setting": setting, _VISION: vision}
    for step, setting in ((LANGUAGE, "Freeze Vision FT"), (WHOLE, "Unfreeze Vision FT"))
    for downstream, vision in (("vision frozen", "frozen"), ("vision trained", "unfrozen"))
}
"""What the file says of a contrast's numbers."""


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
def _content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


@cache
def records() -> tuple[dict[str, Any], ...]:
    """Every number, as the file has it."""
    return tuple(_content()["records"])


def confidences() -> dict[str, str]:
    """What each "confidence" means."""
    return dict(_content()["confidence"])


def axes() -> dict[str, str]:
    """What a benchmark's usual metric is, with its unit, by benchmark."""
    return dict(_content()["axes"])


def reported(contrast: str) -> list[Reported]:
    """The differences that the paper reports on a contrast; none for one that it did not make.

    Args:
        contrast: see `vlm4vla.studies.study.Contrast.paper`.
    """
    if contrast not in _RECORDS:
        return []
    wanted = _RECORDS[contrast].items()
    return [
        Reported(*(one[name] for name in Reported._fields))
        for one in records()
        if wanted <= one.items()
    ]


def direction(found: list[Reported]) -> str:
    """Where all differences point: "lower", "higher", "level", "mixed", or "" for none at all."""
    signs = {(one.delta > 0) - (one.delta < 0) for one in found}
    if not signs:
        return ""
    return {-1: "lower", 0: "level", 1: "higher"}[signs.pop()] if len(signs) == 1 else "mixed"
