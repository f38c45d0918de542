"""The tables of docs/results.md, against the rows that are shipped."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from vlm4vla.statistics import wilson

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "assets" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text("utf-8").splitlines()

NAMES = ("qwen3vl-tiny", "internvl-tiny", "paligemma-tiny")

PARTS = ("object", "goal", "gripper", "others", "background", "robot")
"""In the order of the table's column."""


def tables(head: str) -> list[list[list[str]]]:
    """Every table of the page with this head, as rows of cells."""
    found = []
    for place, line in enumerate(PAGE):
        if line.startswith(f"| {head} |"):
            rows = []
            for row in PAGE[place + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip() for cell in row.strip("| ").split(" | ")])
            found.append(rows)
    return found


def interval(told: dict[str, Any], digits: int) -> str:
    value, low, high = (f"{told[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{value} ({low} to {high})"


def trust_cells(first: dict[str, Any], later: dict[str, Any]) -> list[str]:
    """A row as the page writes it: the first inference, then the one where they part."""

    def both(one: Any) -> str:
        return f"{one(first)}; {one(later)}"

    def pointing(row: dict[str, Any]) -> str:
        hits = row["points_at_object"]
        low, high = (f"{100 * hits[end]:.0f} %" for end in ("low", "high"))
        return f"{hits['successes']} of {hits['n']} ({low} to {high})"

    def mass(row: dict[str, Any]) -> str:
        return ", ".join(f"{100 * row['mass'][part]['mean']:.0f}" for part in PARTS) + " %"

    return [
        first["method"],
        both(lambda row: interval(row["deletion"], 1)),
        both(lambda row: interval(row["insertion"], 1)),
        both(lambda row: interval(row["infidelity"], 2)),
        both(pointing),
        both(mass),
        interval(first["collapse"], 2),
    ]


@pytest.mark.parametrize("place", range(3), ids=NAMES)
def test_the_trust_tables_hold_what_was_measured(place: int) -> None:
    shown = tables(
        "method | deletion gain | insertion gain | infidelity | highest cell meets the object | "
        "mass on object, goal, gripper, distractors, background, rest of the robot | agreement "
        "with the map of randomised weights (n = 20)"
    )
    assert len(shown) == 6
    told = json.loads((SHIPPED / f"trust-{NAMES[place]}.json").read_text())
    for target, table in zip(("displacement", "gripper"), shown[2 * place :], strict=False):
        rows = {
            (row["when"], row["method"]): row for row in told["rows"] if row["target"] == target
        }
        wanted = [
            trust_cells(rows["first", method], rows["parting", method])
            for when, method in rows
            if when == "first"
        ]
        assert table == wanted


SENTENCES = ("", "sentence-empty", "sentence-other-object", "sentence-order")
PICTURES = ("", "picture-blank", "picture-other", "picture-patches")


@pytest.mark.parametrize("place", range(3), ids=NAMES)
def test_the_grids_hold_what_was_measured(place: int) -> None:
    shown = tables("picture | sentence kept | empty | another object's | word salad")
    assert len(shown) == 3
    won: dict[tuple[str, ...], list[bool]] = defaultdict(list)
    file = SHIPPED / f"{NAMES[place]}-ablation.parquet"
    for row in pyarrow.parquet.read_table(file, columns=["condition", "success"]).to_pylist():
        changed = json.loads(row["condition"]).get("perturbations", [])
        won[tuple(one["name"] for one in changed)].append(row["success"])
    # The intact cell is the evaluation's.
    file = SHIPPED / f"{NAMES[place]}{'' if place == 0 else '-known'}.parquet"
    columns = ["condition", "success", "seed"]
    for row in pyarrow.parquet.read_table(file, columns=columns).to_pylist():
        if json.loads(row["condition"]) == {"words": "known"} and row["seed"] < 20:
            won[()].append(row["success"])
    for picture, cells in zip(PICTURES, shown[place], strict=True):
        for sentence, cell in zip(SENTENCES, cells[1:], strict=True):
            found = won[tuple(filter(None, (picture, sentence)))]
            rate = wilson(sum(found), len(found))
            assert rate.n == 100
            said = f"{rate.successes} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
            assert cell.removesuffix(", chance") == said
