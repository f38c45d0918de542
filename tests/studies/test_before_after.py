"""Before and after training, over what is shipped, read row by row from its files."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlm4vla.representations.pictures import TARGETS
from vlm4vla.studies.before_after import CellChange, LayerChange, changes, tally, to_csv
from vlm4vla.studies.measures import PROBE, PROJECTOR, Row
from vlm4vla.studies.registry import STUDIES

CELLS = Path(__file__).parents[2] / "assets" / "results" / "cells"

CELL, START = "14348df89c9f", "352264e0ca1a"
"""qwen3-vl's VLM at 6e-4, training seed 0, and what it started from."""

CONCEPTS = ("object", "named", "gripper", "height", "closed", "colour")
"""In the order of the files' rows, a layer after another."""


@pytest.fixture(autouse=True)
def nothing_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))


def rows_of(file: str) -> list[list]:
    return json.loads((CELLS / file).read_text())["rows"]


def change(concept: str, study: str = "initialisation") -> CellChange:
    [found] = [one for one in changes([STUDIES[study]], concept) if one.member.cell.name == CELL]
    return found


@pytest.mark.parametrize("concept", CONCEPTS)
def test_every_layer_holds_the_rows_of_both_files(concept: str) -> None:
    after, before = rows_of(f"{CELL}-measures.json"), rows_of(f"{START}-start.json")
    found = change(concept).layers
    # 7 layers of the vision tower, the projector, 4 of the picture's tokens, 5 of the query.
    assert len(found) == 17 and found[7].layer == "projector" and found[-1].layer == "query 5"
    for place, layer in enumerate(found):
        row = 6 * place + CONCEPTS.index(concept)
        assert ["probe", layer.layer, concept] == after[row][:3] == before[row][:3]
        assert list(layer.after or ()) == after[row]
        assert list(layer.before or ()) == before[row]
        alike = after[6 * 17 + place]
        assert alike[:2] == ["CKA", layer.layer] and layer.cka == alike[3]


def test_every_measured_cell_has_its_change_in_every_study_that_it_stands_in() -> None:
    shipped = {file.name.split("-")[0] for file in CELLS.glob("*-measures.json")}
    found = changes(STUDIES.values(), "named")
    assert {one.member.cell.name for one in found} == shipped
    places = [one.label for one in found if one.member.cell.name == CELL]
    assert places == [
        "initialisation: VLM, qwen3-vl at 0.0006, training seed 0",
        "modules: all, qwen3-vl at 0.0006, training seed 0",
        "injection: no tokens, then vision trained, qwen3-vl at 0.0006, training seed 0",
    ]
    # They count once: whoever reads every file anew counts the same.
    apart = 0
    for name in shipped:
        one = next(cell for cell in found if cell.member.cell.name == name)
        at = one.at(PROJECTOR)
        assert at is not None and at.after is not None and at.before is not None
        apart += not (at.before[4] <= at.after[5] and at.after[4] <= at.before[5])
    said = tally(found)
    assert said.startswith(f"In {apart} of" if apart else "In all")
    assert f" {len(shipped)} measured cells" in said


def test_the_sentence_says_the_intervals_and_no_more() -> None:
    # Projector: 8.0925 (7.6108 to 8.5826) and 8.9584 (8.4685 to 9.4772); the last layer at the
    # query: 3.6291 (3.3882 to 3.8938) and 9.947 (9.4045 to 10.476); the mean: 11.884.
    assert change("named").sentence() == (
        "At the projector a linear probe tells where the object that the sentence names is to "
        "8.1 cm (95 % 7.6 to 8.6 cm) after training and 9.0 cm (95 % 8.5 to 9.5 cm) before: the "
        "intervals overlap. At query 5, which the action head reads, to 3.6 cm (95 % 3.4 to "
        "3.9 cm) after training and 9.9 cm (95 % 9.4 to 10.5 cm) before: the intervals do not "
        "overlap. Whoever always answers the mean is off by 11.9 cm."
    )
    assert "closed with a balanced accuracy of 77 % (95 % 70 to 83 %) after training and 73 %" in (
        change("closed").sentence()
    )
    assert change("closed").sentence().endswith("Whoever always answers the same has 50 %.")


def row(score: float, low: float | None, high: float | None) -> Row:
    return Row(PROBE, PROJECTOR, "named", score, low, high, 300, 11.9)


@pytest.mark.parametrize(
    ("before", "after", "overlap", "same"),
    [
        (row(9.0, 8.5, 9.5), row(8.0, 7.5, 8.5), True, False),
        (row(9.0, 8.5, 9.5), row(8.0, 7.5, 8.4), False, False),
        (row(8.0, 7.5, 8.4), row(9.0, 8.5, 9.5), False, False),
        (row(9.0, 8.5, 9.5), row(9.0, 8.9, 9.1), True, False),
        (row(9.0, 8.5, 9.5), row(9.0, 8.5, 9.5), True, True),
        (row(9.0, 8.5, 9.5), row(8.0, None, None), None, False),
        (None, row(8.0, 7.5, 8.4), None, False),
        (row(9.0, 8.5, 9.5), None, None, False),
    ],
)
def test_intervals_overlap_where_they_share_a_point(before, after, overlap, same) -> None:
    layer = LayerChange(PROJECTOR, before, after, 0.5)
    assert (layer.overlap, layer.same) == (overlap, same)


def with_projector(layer: LayerChange, concept: str = "named") -> CellChange:
    target = next(one for one in TARGETS if one.name == concept)
    return replace(change("named"), target=target, layers=(layer,))


def test_what_is_not_known_is_not_said() -> None:
    one = LayerChange(PROJECTOR, None, row(8.0, 7.5, 8.4), None)
    assert with_projector(one).sentence() == (
        "At the projector a linear probe tells where the object that the sentence names is to "
        "8.0 cm (95 % 7.5 to 8.4 cm) after training (what it started from is not known). Whoever "
        "always answers the mean is off by 11.9 cm."
    )
    frozen = LayerChange(PROJECTOR, row(8.0, 7.5, 8.4), row(8.0, 7.5, 8.4), 1.0)
    assert "after training, the same as before. Whoever" in with_projector(frozen).sentence()
    bare = LayerChange(PROJECTOR, row(9.0, 8.5, 9.5), row(8.0, None, None), None)
    assert "to 8.0 cm after training and 9.0 cm (95 % 8.5 to 9.5 cm) before. " in (
        with_projector(bare).sentence()
    )
    nothing = with_projector(LayerChange(PROJECTOR, None, None, None))
    assert nothing.sentence() == (
        "Neither the projector nor what the action head reads was probed."
    )
    assert tally([nothing]) == "" == tally([])


def test_a_tally_says_which_way_intervals_part() -> None:
    def cell(seed: int, concept: str, before: Row, after: Row) -> CellChange:
        found = with_projector(LayerChange(PROJECTOR, before, after, 0.5), concept)
        return replace(
            found, member=replace(found.member, cell=replace(found.member.cell, seed=seed))
        )

    low, middle, high = row(7.0, 6.8, 7.2), row(8.0, 7.1, 8.9), row(9.0, 8.8, 9.2)
    ends = [(high, low), (high, low), (low, high), (low, middle)]
    found = [cell(seed, "named", *pair) for seed, pair in enumerate(ends)]
    assert tally([*found, found[0]]) == (
        "In 3 of 4 measured cells the intervals before and after training do not overlap: "
        "2 better after it, 1 worse."
    )
    # Of an accuracy more is better.
    found = [cell(seed, "closed", *pair) for seed, pair in enumerate(ends)]
    assert tally(found).endswith("1 better after it, 2 worse.")
    assert tally(found[3:]) == (
        "In the one measured cell the intervals before and after training overlap."
    )


def test_the_file_has_a_line_a_layer() -> None:
    one = change("gripper")
    lines = list(csv.DictReader(io.StringIO(to_csv([one]))))
    after, before = rows_of(f"{CELL}-measures.json"), rows_of(f"{START}-start.json")
    assert [line["layer"] for line in lines] == [after[6 * place][1] for place in range(17)]
    line = lines[7]
    assert (line["study"], line["cell"], line["concept"]) == ("initialisation", CELL, "gripper")
    assert float(line["before_low"]) == before[6 * 7 + 2][4]
    assert float(line["after"]) == after[6 * 7 + 2][3]
    assert float(line["cka"]) == after[6 * 17 + 7][3]
    assert (line["n"], line["seed"]) == ("300", "0")
    [alone] = csv.DictReader(io.StringIO(to_csv([one], PROJECTOR)))
    assert alone == line
