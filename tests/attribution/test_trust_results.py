"""Trust tables that come with the project, told in sentences and as CSV."""

import csv
import json
from pathlib import Path

import pytest

from vlm4vla.attribution.trust_results import (
    MEASURES,
    TARGETS,
    WHEN,
    TrustTable,
    against_each,
    measures_csv,
    read_trust,
    sentence,
    shares_csv,
)

DELETED, INSERTED = MEASURES[0], MEASURES[1]


def row(method: str, when: str, against: list[str], infidelity: float) -> dict[str, object]:
    """A row whose deletion gain is twice the infidelity."""

    def mean(value: float) -> dict[str, float]:
        return {"n": 100, "mean": value, "low": value - 0.5, "high": value + 0.5}

    return {
        "when": when,
        "target": "gripper",
        "method": method,
        "n": 100,
        "deletion": mean(2 * infidelity),
        "insertion": {"n": 0, "mean": None, "low": None, "high": None},
        "infidelity": mean(infidelity),
        "mass": {"object": mean(0.25)},
        "pixels": {"object": mean(0.125)},
        "agreement": {"other": mean(0.5)},
        "against": against,
    }


def table(name: str, *rows: dict[str, object]) -> TrustTable:
    return TrustTable(name, "0" * 16, "vlm4vla trust", 100, 20, rows)


ONE = table(
    "one",
    row("good", "first", [], 0.75),
    row("good", "parting", [], 0.75),
    row("better", "first", [], 0.5),
    row("better", "parting", [], 0.75),
    row("late", "first", [], 0.25),
    row("late", "parting", ["a", "b"], 0.25),
)
OTHER = table("other", row("good", "first", ["a"], 0.5))


def test_a_method_deserves_trust_if_nothing_speaks_against_it_at_any_time() -> None:
    assert against_each(ONE.rows, "gripper") == {"late": ["a", "b"], "better": [], "good": []}
    assert against_each(ONE.rows, "displacement") == {}
    assert sentence([ONE, OTHER], "gripper") == (
        "Maps of the gripper that deserve trust: better and good for one; no method for other; "
        "none of them in every policy."
    )
    assert sentence([ONE, ONE], "gripper").endswith("for one; better and good in every policy.")
    assert sentence([], "gripper") == ""


def test_tables_come_as_csv() -> None:
    rows = list(csv.DictReader(measures_csv([ONE, OTHER], "gripper", DELETED).splitlines()))
    assert len(rows) == 7 and {one["chance"] for one in rows} == {"0.0"}
    assert rows[0] == rows[0] | {"policy": "one", "method": "good", "deletion": "1.5", "low": "1.0"}
    # What was not measured has no row.
    assert len(measures_csv([ONE], "gripper", INSERTED).splitlines()) == 1
    parts = list(csv.DictReader(shares_csv(ONE, "gripper").splitlines()))
    assert len(parts) == 12
    assert parts[0] == parts[0] | {"of": "object", "value": "0.25", "area": "0.125"}
    assert parts[1] == parts[1] | {"what": "agreement", "of": "other", "value": "0.5"}


def test_what_is_shipped_says_what_its_verdict_says() -> None:
    tables = read_trust()
    assert [one.name for one in tables] == ["qwen3vl-tiny", "internvl-tiny", "paligemma-tiny"]
    for one in tables:
        path = Path("assets/results") / f"trust-{one.name}.json"
        verdict = json.loads(path.read_text("utf-8"))["verdict"]
        for target, told in zip(TARGETS, verdict, strict=True):
            good = [name for name, reasons in against_each(one.rows, target).items() if not reasons]
            words = f"trust {', '.join(good)}" if good else "no method deserves trust"
            assert told.startswith(f"{target}: {words}")
            for measure in MEASURES:
                known = [one.find(when, target, "occlusion") for when in WHEN]
                values = [measure.of(found) for found in known if found]
                assert values[0] is not None
                # Weights are randomised at first inferences only.
                assert (values[1] is None) == (measure.name == "collapse")


@pytest.mark.parametrize("target", TARGETS)
def test_all_of_a_map_lies_somewhere(target: str) -> None:
    for one in read_trust():
        for found in one.rows:
            if found["target"] == target:
                # Tasks without a goal place have nothing there, and a map without any score
                # has nothing anywhere.
                maps = sum(part["mean"] * part["n"] for part in found["mass"].values())
                assert maps == pytest.approx(round(maps))
                assert 0.9 * found["n"] <= round(maps) <= found["n"]
