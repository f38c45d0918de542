"""Trust tables that come with the project: read, told in a sentence, and as CSV; needs no torch."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "results"

TARGETS: Final = {"displacement": "mm", "gripper": "logits"}
"""What the tables explain, with the unit of gains."""

WHEN: Final = {"first": "first inference", "parting": "where it leaves the expert"}

DELETION: Final = "deletion not above random orders"
INSERTION: Final = "insertion not above random orders"
WEIGHTS: Final = "not shown to change with the weights"

RULES: Final = {DELETION: "deletion", INSERTION: "insertion", WEIGHTS: "weights"}
"""What can speak against a method, each with a word for it."""

REGIONS: Final = {
    "object": "the named object",
    "goal": "where it goes",
    "gripper": "the fingers",
    "others": "other objects",
    "robot": "rest of the robot",
    "background": "table and floor",
}
"""Parts of the picture by truth, see `vlm4vla.attribution.scene.regions`."""

Row = Mapping[str, Any]
"""A row of `vlm4vla.attribution.trust_table.trust_table`."""

_TOLD_FIRST: Final = "qwen3vl-tiny"
"""The policy that docs/results.md tells first, where its table is there."""


@dataclass(frozen=True)
class TrustTable:
    """What `vlm4vla trust` measured of a policy.

    Attributes:
        name: of the policy.
        digest: of its weights.
        command: what made the table.
        episodes: that were explained at two inferences each.
        randomised: of which the first map was also made with randomised weights.
        rows: one a time, target and method.
    """

    name: str
    digest: str
    command: str
    episodes: int
    randomised: int
    rows: tuple[Row, ...]

    def find(self, when: str, target: str, method: str) -> Row | None:
        """The row of that name, if there is one."""
        wanted = when, target, method
        return next(
            (row for row in self.rows if (row["when"], row["target"], row["method"]) == wanted),
            None,
        )


def against_each(rows: Sequence[Row], target: str) -> dict[str, list[str]]:
    """What speaks against each method at any time, the best method first.

    A method of which nothing does deserves trust. The best is whose mean infidelity is lowest.

    Args:
        rows: of a trust table.
        target: for which maps are judged.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["target"] == target:
            found.setdefault(row["method"], []).append(row)

    def missed(method: str) -> float:
        values = [row["infidelity"]["mean"] for row in found[method]]
        unknown = any(one is None or math.isnan(one) for one in values)
        return math.inf if unknown else sum(values) / len(values)

    return {
        method: list(dict.fromkeys(one for row in found[method] for one in row["against"]))
        for method in sorted(found, key=missed)
    }


class Interval(NamedTuple):
    """A value with its 95 % interval; the ends are None where n is too small."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Measure:
    """A measure of how true a map is.

    Attributes:
        name: what it is called in the address.
        meaning: the same for people.
        better: where better maps lie.
        of: the value in a row; None where it was not measured.
        chance: what a map that knows nothing has in a row.
        gain: whether it is in the target's unit.
    """

    name: str
    meaning: str
    better: str
    of: Callable[[Row], Interval | None]
    chance: Callable[[Row], float]
    gain: bool = False


def _mean(found: Mapping[str, Any]) -> Interval | None:
    if not found["n"] or found["mean"] is None:
        return None
    return Interval(found["mean"], found["low"], found["high"], found["n"])


def _pointing(row: Row) -> Interval:
    found = row["points_at_object"]
    return Interval(found["rate"], found["low"], found["high"], found["n"])


MEASURES: Final = (
    Measure(
        "deletion",
        "deletion gain over random orders",
        "above 0",
        lambda row: _mean(row["deletion"]),
        lambda row: 0.0,
        gain=True,
    ),
    Measure(
        "insertion",
        "insertion gain over random orders",
        "above 0",
        lambda row: _mean(row["insertion"]),
        lambda row: 0.0,
        gain=True,
    ),
    Measure(
        "infidelity",
        "infidelity",
        "towards 0; 1 foretells nothing",
        lambda row: _mean(row["infidelity"]),
        lambda row: 1.0,
    ),
    Measure(
        "collapse",
        "agreement with the map of randomised weights",
        "below 0.5",
        lambda row: _mean(row["collapse"]),
        lambda row: 0.5,
    ),
    Measure(
        "pointing",
        "how often the highest cell meets the named object",
        "above chance",
        _pointing,
        lambda row: float(row["chance_of_object"]["mean"]),
    ),
    Measure(
        "mass",
        "share of the map on the named object",
        "above the object's area",
        lambda row: _mean(row["mass"]["object"]),
        lambda row: float(row["pixels"]["object"]["mean"]),
    ),
)


@cache
def read_trust(folder: Path = SHIPPED) -> tuple[TrustTable, ...]:
    """The tables of a folder, the app's first policy first.

    Args:
        folder: of what `vlm4vla trust` wrote, as `trust-NAME.json`.
    """
    found = []
    for path in sorted(folder.glob("trust-*.json")):
        told = json.loads(path.read_text("utf-8"))
        found.append(
            TrustTable(
                path.stem.removeprefix("trust-"),
                told["checkpoint"],
                told["command"],
                told["episodes"],
                told["randomised"],
                tuple(told["rows"]),
            )
        )
    return tuple(sorted(found, key=lambda one: one.name != _TOLD_FIRST))


def sentence(tables: Sequence[TrustTable], target: str) -> str:
    """Which methods deserve trust for a target, policy by policy, and which in all of them."""
    good = {
        table.name: [
            name for name, reasons in against_each(table.rows, target).items() if not reasons
        ]
        for table in tables
    }
    if not good:
        return ""
    told = [f"{_listed(names)} for {policy}" for policy, names in good.items() if names]
    without = [policy for policy, names in good.items() if not names]
    if without:
        told.append(f"no method for {_listed(without)}")
    everywhere = sorted(set.intersection(*map(set, good.values())))
    every = (
        f"{_listed(everywhere)} in every policy" if everywhere else "none of them in every policy"
    )
    return f"Maps of the {target} that deserve trust: {'; '.join(told)}; {every}."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def measures_csv(tables: Sequence[TrustTable], target: str, measure: Measure) -> str:
    """One measure of every method of some policies, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["policy", "digest", "target", "when", "method", measure.name, "low", "high", "n", "chance"]
    )
    for table in tables:
        for row in table.rows:
            if row["target"] == target and (told := measure.of(row)):
                which = [table.name, table.digest, target, row["when"], row["method"]]
                writer.writerow([*which, *told, measure.chance(row)])
    return out.getvalue()


def shares_csv(table: TrustTable, target: str) -> str:
    """Shares of mass by region and agreement between methods of a policy, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["policy", "target", "when", "method", "what", "of", "value", "low", "high", "n", "area"]
    )
    for row in table.rows:
        if row["target"] != target:
            continue
        head = [table.name, target, row["when"], row["method"]]
        for region in REGIONS:
            if region in row["mass"] and (told := _mean(row["mass"][region])):
                area = row["pixels"][region]["mean"]
                writer.writerow([*head, "share of the map", region, *told, area])
        for other, found in row["agreement"].items():
            if told := _mean(found):
                writer.writerow([*head, "agreement", other, *told, ""])
    return out.getvalue()
