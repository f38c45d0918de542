"""The paper's tables; the expected numbers were copied by hand from the file and the paper."""

import csv
import io
from collections import Counter

import pytest

from vlm4vla.studies import paper_tables
from vlm4vla.studies.paper import records
from vlm4vla.studies.paper_tables import Row, Table, legend, lines, tables, to_csv, to_json

SIZES = {
    "main": 36,
    "freeze": 18,
    "scratch": 4,
    "injection": 6,
    "auxiliary-tasks": 164,
    "capability": 9,
    "capability-of-the-submission": 7,
    "calvin-per-length": 55,
    "simpler-per-task": 44,
}


def flat(table: Table) -> list[dict]:
    """Its numbers, each with its row."""
    told = to_json(table)
    return [row | entry for row in told["rows"] for entry in row["entries"]]


def test_every_number_of_the_file_stands_in_one_table_once():
    found = tables()
    assert {name: len(one.entries) for name, one in found.items()} == SIZES
    assert sum(SIZES.values()) == len(records()) == 343
    names = ("model", "size_b", "benchmark", "metric", "value", "delta", "source", "confidence")
    shown = Counter(
        (name.replace("-", " "), *(one[key] for key in names))
        for name, table in found.items()
        for one in flat(table)
    )
    assert shown == Counter((one["table"], *(one.get(key) for key in names)) for one in records())
    # Nothing but what the file says of the two steps of a training is put into other words.
    settings = {row.setting for table in found.values() for row in table.rows}
    assert {s.partition("; then")[0] for s in settings} == {one["setting"] for one in records()}
    assert [row.setting for row in found["injection"].rows][:2] == [
        "Baseline (no VLM fine-tune); then vision encoder frozen",
        "Freeze Vision FT; then vision encoder frozen",
    ]


RANGES = {
    "success, %": (0, 100),
    "sub-tasks out of 5": (0, 5),
    "share of sequences": (0, 1),
    "grid lines": (0, 8),
}


def test_a_column_has_one_unit():
    used = set()
    for table in tables().values():
        for (_, column), entry in table.entries.items():
            low, high = RANGES[column.measure.unit]
            assert low <= entry.value <= high
            used.add(column.measure.unit)
        # A metric of a benchmark has one column, and a measure's columns stand side by side.
        names = [(one.measure.benchmark, one.metric) for one in table.columns]
        assert len(set(names)) == len(names)
        heads = [one.measure for one in table.columns]
        assert sorted(heads, key=heads.index) == heads
    assert used == set(RANGES)


def test_numbers_as_text():
    told = lines(tables()["freeze"])
    assert told[0] == "freeze: Parts frozen while the policy learns (18 numbers)"
    assert told[1].startswith("The size is that of what learns. In brackets: the difference")
    assert "CALVIN ABC-D: average completed sub-tasks out of 5 (1000 sequences)" in told
    [line] = [one for one in told if "Paligemma-1" in one and "0.495" in one]
    assert line.split()[:6] == ["Paligemma-1", "2.5", "B", "freeze", "vision", "encoder"]
    assert line.endswith("◇ 0.495 (-3.011)  ◇ paper Table 3")
    assert told[-1] == "◇ typed out in a table that the authors published"
    [line] = [one for one in lines(tables()["scratch"]) if "15.75" in one]
    assert line.split()[:3] == ["Qwen2.5VL-3B", "3.8", "B"]
    assert line.endswith("△ 15.75 (-32.25)  △ paper Table 4")
    assert legend(tables()["scratch"]) == ["△ quoted by somebody else from the paper"]
    told = lines(tables()["auxiliary-tasks"])
    head = told.index("CALVIN ABC-D: average completed sub-tasks out of 5 (1000 sequences)") + 1
    assert told[head].split()[3:] == ["lowest", "median", "highest", "value", "source"]
    [line] = [one for one in told[head:] if "RoboBrain2" in one]
    assert "□ 3.683 (-0.367)  □ 3.774 (-0.283)  □ 3.887 (-0.182)  △ 3.887 (-0.17)" in line
    assert line.endswith("□ paper Figure 4, △ paper Table 8")


def test_a_chart_has_the_median_between_its_ends_and_other_numbers_beside_it():
    table = tables()["auxiliary-tasks"]
    measure = table.measures[-1]
    points = [one for one in table.points(measure) if one.row.setting == "+ Omni-Generation"]
    assert [(one.entry.value, one.low, one.high) for one in points] == [
        (3.877, 3.745, 3.967),
        (3.876, None, None),
    ]
    assert [one.entry.confidence for one in points] == ["read-off-chart", "secondary"]
    assert points[0].row == Row("Qwen2.5VL-7B", 8.3, "+ Omni-Generation")
    # Its own ends: those of Figure 4.
    assert table.extent(measure) == (3.59, 4.069)
    assert len(table.measures) == 6 and len(table.points(table.measures[0])) == 9


def test_charts_of_one_unit_have_one_scale():
    table = tables()["simpler-per-task"]
    assert [one.words for one in table.measures] == [
        f"success % in the {task} task" for task in ("carrot", "eggplant", "spoon", "cube")
    ]
    assert {table.extent(one) for one in table.measures} == {(0.0, 100.0)}
    # Other benchmarks have their own, of the same unit or not.
    main = tables()["main"]
    assert [main.extent(one) for one in main.measures] == [
        (0.0, 4.142),
        (0.0, 60.4),
        (0.0, 62.8),
    ]


def test_one_benchmark_of_a_table():
    main = tables()["main"]
    assert main.benchmarks == ["CALVIN ABC-D", "SimplerEnv-Bridge", "LIBERO-10"]
    part = main.of("LIBERO-10")
    assert part.benchmarks == ["LIBERO-10"] and len(part.entries) == 12 == len(part.rows)
    [kosmos] = [one for one in flat(part) if one["model"] == "Kosmos-2"]
    assert (kosmos["value"], kosmos["source"]) == (55.0, "paper Tables 1 and 2")


def test_a_table_as_a_file():
    rows = list(csv.DictReader(io.StringIO(to_csv(tables()["injection"]))))
    assert len(rows) == 6
    assert rows[2] == {
        "table": "injection",
        "model": "Qwen3VL-4B",
        "size_b": "4.4",
        "setting": "Unfreeze Vision FT; then vision encoder frozen",
        "benchmark": "SimplerEnv-Bridge",
        "metric": "success_pct",
        "unit": "success, %",
        "value": "45.7",
        "delta": "18.1",
        "source": "paper, table of FAST tokens",
        "confidence": "table",
    }


def test_what_has_no_unit_or_no_place_of_its_own_is_refused():
    one = next(one for one in records() if one["metric"] == "avg_len")
    with pytest.raises(ValueError, match="no unit is known of furlongs"):
        paper_tables._table("main", [{**one, "metric": "furlongs"}])
    with pytest.raises(ValueError, match="main has two numbers"):
        paper_tables._table("main", [one, {**one, "value": 5.0}])
