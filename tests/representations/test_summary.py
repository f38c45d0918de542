"""What rows say in sentences and lines, and that they come back from their files."""

import csv
from pathlib import Path

import pytest

from vlm4vla.errors import UserError
from vlm4vla.representations.results import (
    CkaRow,
    ProbeRow,
    ShareRow,
    read_cka,
    read_probes,
    read_shares,
    write_cka,
    write_probes,
    write_shares,
)
from vlm4vla.representations.summary import (
    best,
    encoders,
    layers,
    line,
    sentence,
    share_sentence,
    to_csv,
)

LAYERS = ("vision 0", "vision 1", "projector", "picture 1", "query 1", "query 2")


def rows(checkpoint: str, values: tuple[float, ...], target: str = "named") -> list[ProbeRow]:
    metric = "cm" if target == "named" else "balanced accuracy"
    return [
        ProbeRow(
            checkpoint,
            "0" * 16,
            "qwen3-vl",
            layer,
            place,
            layer == "query 2",
            target,
            "linear",
            metric,
            value,
            value - 0.25,
            value + 0.25,
            100,
            20,
            10.75,
            9.5,
            "vlm4vla represent",
        )
        for place, (layer, value) in enumerate(zip(LAYERS, values, strict=True))
    ]


TUNED = rows("tuned", (9.0, 8.0, 7.0, 6.0, 1.5, 2.5))
FIRST = rows("first", (9.0, 9.0, 9.0, 9.0, 9.0, 6.0))


def test_the_sentence_says_what_the_action_head_is_given() -> None:
    said = sentence(TUNED + FIRST, ["tuned", "first"], "named")
    assert said == (
        "Where the action head reads, tuned knows where the object that the sentence names is to "
        "2.5 cm (95 % 2.2 to 2.8 cm); first to 6.0 cm (95 % 5.8 to 6.2 cm). Fresh weights: 9.5 cm; "
        "always the same answer: 10.8 cm."
    )
    assert sentence(TUNED, ["nobody"], "named") == ""
    # The best layer is another one; that it was looked for is said.
    assert best(TUNED + FIRST, ["tuned"], "named", "linear") == (
        "Best layer, chosen after looking: tuned query 1 (1.5 cm)."
    )
    told = sentence(rows("one", (0.5, 0.5, 0.5, 0.5, 0.5, 0.75), "closed"), ["one"], "closed")
    assert "one tells whether the gripper is closed with 75 %" in told


def test_layers_at_which_nothing_was_judged_are_left_out() -> None:
    nan = float("nan")
    unknown = [row._replace(value=nan, low=nan, high=nan, n=0) for row in TUNED]
    assert line(unknown, "tuned", "named", "linear") == []
    assert sentence(unknown, ["tuned"], "named") == ""
    assert best([unknown[0], *TUNED[1:]], ["tuned"], "named", "linear") == (
        "Best layer, chosen after looking: tuned query 1 (1.5 cm)."
    )


def shares(checkpoint: str, *values: float) -> list[ShareRow]:
    """Shares of attention with intervals of 0.125 either side, over an area of 0.25."""
    return [
        ShareRow(
            checkpoint,
            "0" * 16,
            "qwen3-vl",
            "attention",
            f"query {place + 1}",
            place,
            value,
            value - 0.125,
            value + 0.125,
            50,
            250,
            250,
            0.25,
            "vlm4vla represent",
        )
        for place, value in enumerate(values)
    ]


def test_a_share_counts_where_its_whole_interval_is_above_the_area(tmp_path: Path) -> None:
    some = [*shares("one", 0.25, 0.375, 0.5), *shares("other", 0.125)]
    assert share_sentence(some, ["one", "other", "nobody"], "attention") == (
        "More of the query's attention than its area (25.0 %) lies on the named object, by the "
        "whole 95 % interval: one in query 3 (50.0 %); other in no layer."
    )
    assert share_sentence(some, ["one"], "grad-cam") == ""
    write_shares(tmp_path, some)
    assert read_shares(tmp_path) == some


def test_layers_stand_in_the_order_of_computing() -> None:
    turned = [*reversed(TUNED), *FIRST]
    assert layers(turned) == list(LAYERS)
    assert [row.layer for row in line(turned, "tuned", "named", "linear")] == list(LAYERS)
    assert encoders(turned) == ["tuned", "first"]


def test_rows_come_back_and_an_older_file_is_refused(tmp_path: Path) -> None:
    pair = CkaRow("tuned", "vision 0", "first", "query 2", 0.5, 300, "vlm4vla represent")
    write_probes(tmp_path, TUNED)
    write_cka(tmp_path, [pair])
    assert read_probes(tmp_path) == TUNED
    assert read_cka(tmp_path) == [pair]
    assert read_probes(tmp_path / "none") == []
    read = list(csv.DictReader(to_csv(TUNED).splitlines()))
    assert [float(row["value"]) for row in read] == [row.value for row in TUNED]
    write_cka(tmp_path, [pair])
    (tmp_path / "cka.parquet").replace(tmp_path / "probes.parquet")
    with pytest.raises(UserError):
        read_probes(tmp_path)
