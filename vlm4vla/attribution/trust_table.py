"""The trust table: measures of maps over many episodes, with intervals, and what they say."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import stats

from vlm4vla.attribution.randomised import ALL
from vlm4vla.attribution.trust_results import DELETION, INSERTION, WEIGHTS, against_each
from vlm4vla.statistics import wilson

FIRST: Final = "first"
PARTING: Final = "parting"
WHEN: Final = (FIRST, PARTING)
"""The first inference of an episode, and the later one at which policy and expert part most."""

STILL_THE_SAME: Final = 0.5
"""Rank correlation with the true map from which on a map does not depend on the weights."""

Record = Mapping[str, Any]
"""What is kept of one inference; see `vlm4vla.commands.trust`."""


class Mean(NamedTuple):
    """A mean over episodes with its 95 % interval by Student's t; NaN where n is too small."""

    n: int
    mean: float
    low: float
    high: float


def mean_of(values: Iterable[float | None]) -> Mean:
    """The mean of the values that there are; None and NaN do not count."""
    kept = [one for one in values if one is not None and not math.isnan(one)]
    nothing = float("nan")
    if len(kept) < 2:
        return Mean(len(kept), kept[0] if kept else nothing, nothing, nothing)
    mean, spread = float(np.mean(kept)), float(stats.sem(kept))
    half = spread * float(stats.t.ppf(0.975, len(kept) - 1))
    return Mean(len(kept), mean, mean - half, mean + half)


def trust_table(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each time, target and method, plain values.

    Args:
        records: of inferences, no two of one time and episode.
    """
    rows = []
    for when in WHEN:
        there = [one for one in records if one["when"] == when]
        for target, methods in _names(there).items():
            for method in methods:
                measured = [
                    (one, one["targets"][target][method])
                    for one in there
                    if method in one["targets"].get(target, {})
                ]
                rows.append({"when": when, "target": target, "method": method, **_row(measured)})
                rows[-1]["collapse"] = _collapse(there, target, method)._asdict()
                rows[-1]["agreement"] = _agreement(there, target, method)
                rows[-1]["against"] = why_not(rows[-1])
    return rows


def _names(records: Sequence[Record]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for one in records:
        for target, methods in one["targets"].items():
            found.setdefault(target, {}).update(dict.fromkeys(methods))
    return {target: list(methods) for target, methods in found.items()}


def _row(measured: Sequence[tuple[Record, Record]]) -> dict[str, Any]:
    found = [values for _, values in measured]
    pointing = wilson(sum(one["points_at"]["object"] for one in found), len(found))
    parts = {part for one in found for part in one["mass"]}
    return {
        "n": len(found),
        "deletion": mean_of(one["deletion"] for one in found)._asdict(),
        "insertion": mean_of(one["insertion"] for one in found)._asdict(),
        "infidelity": mean_of(one["infidelity"] for one in found)._asdict(),
        "mass": {
            part: mean_of(one["mass"].get(part) for one in found)._asdict()
            for part in sorted(parts)
        },
        "pixels": {
            part: mean_of(one["pixels"].get(part) for one, _ in measured)._asdict()
            for part in sorted(parts)
        },
        "points_at_object": pointing._asdict(),
        "chance_of_object": mean_of(one["cells"]["object"] for one, _ in measured)._asdict(),
    }


def _collapse(records: Sequence[Record], target: str, method: str) -> Mean:
    with_levels = [one["collapse"] for one in records if one.get("collapse")]
    return mean_of(one.get(target, {}).get(method, {}).get(ALL) for one in with_levels)


def _agreement(records: Sequence[Record], target: str, method: str) -> dict[str, Any]:
    others: dict[str, list[float | None]] = {}
    for one in records:
        for other, value in one["agreement"].get(target, {}).get(method, {}).items():
            others.setdefault(other, []).append(value)
    return {other: mean_of(values)._asdict() for other, values in others.items()}


def why_not(row: Record) -> list[str]:
    """What speaks against a method at one time and for one target, each in a few words.

    Weights are randomised at the first inferences only.
    """
    against = []
    if not row["deletion"]["low"] > 0:
        against.append(DELETION)
    if not row["insertion"]["low"] > 0:
        against.append(INSERTION)
    if row["when"] == FIRST and not row["collapse"]["high"] < STILL_THE_SAME:
        against.append(WEIGHTS)
    return against


def verdict(rows: Sequence[Record]) -> list[str]:
    """Which methods deserve trust, a sentence a target; of several the best first.

    A method does if nothing speaks against it at any time that was measured. The best is whose
    mean infidelity is lowest.
    """
    lines = []
    for target in dict.fromkeys(row["target"] for row in rows):
        against = against_each(rows, target)
        good = [name for name, reasons in against.items() if not reasons]
        close = [name for name, reasons in against.items() if reasons == [WEIGHTS]]
        said = f"trust {', '.join(good)}" if good else "no method deserves trust by every measure"
        if close:
            said += (
                f"; {', '.join(close)} beat random orders by deletion and insertion, but "
                f"agreement with the map of randomised weights is not shown to be below "
                f"{STILL_THE_SAME}"
            )
        lines.append(f"{target}: {said}.")
    return lines


def lines_of(rows: Sequence[Record]) -> list[str]:
    """The table as lines of a Markdown table."""
    lines = [
        "| when | target | method | n | deletion gain | insertion gain | infidelity | mass on the "
        "object (pixels) | highest cell meets the object | agreement with the map of "
        "randomised weights |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pointing = row["points_at_object"]
        mass, pixels = row["mass"]["object"]["mean"], row["pixels"]["object"]["mean"]
        cells = [
            row["when"],
            row["target"],
            row["method"],
            str(row["n"]),
            _text(row["deletion"], 2),
            _text(row["insertion"], 2),
            _text(row["infidelity"], 2),
            f"{mass:.1%} ({pixels:.1%})",
            f"{pointing['successes']} of {pointing['n']} ({pointing['low']:.0%} to "
            f"{pointing['high']:.0%}; chance {row['chance_of_object']['mean']:.0%})",
            _text(row["collapse"], 2),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _text(found: Mapping[str, float], digits: int) -> str:
    if not found["n"]:
        return "not measured"
    if math.isnan(found["low"]):
        return f"{found['mean']:.{digits}f}"
    return f"{found['mean']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
