"""The paper's own tables: every number of the file, by model and benchmark, with its source."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, NamedTuple

from vlm4vla.studies.paper import axes, confidences, records

TITLES: Final = {
    "main": "Main results on three benchmarks",
    "freeze": "Parts frozen while the policy learns",
    "scratch": "Policies without the VLM's weights",
    "injection": "VLMs taught action tokens first",
    "auxiliary tasks": "VLMs taught auxiliary tasks first",
    "capability": "General capability of nine VLMs",
    "capability of the submission": "General capability, as submitted",
    "calvin per length": "CALVIN by completed sub-tasks",
    "simpler per task": "SimplerEnv-Bridge by task",
}
"""The file's tables, for people."""

NOTES: Final = {"freeze": "The size is that of what learns."}
"""What one must know to read a table."""

MARKS: Final = {"table": "◇", "read-off-chart": "□", "secondary": "△"}
"""A mark for how a number came from the paper, by confidence."""

_STATISTICS: Final = {"min": "lowest", "median": "median", "max": "highest"}


class Measure(NamedTuple):
    """A benchmark's metric.

    Attributes:
        benchmark: which.
        words: the metric in words, with its unit.
        unit: short, for an axis.
    """

    benchmark: str
    words: str
    unit: str


class Column(NamedTuple):
    """A table's column.

    Attributes:
        measure: what it holds.
        statistic: "lowest", "median" or "highest" of several; "" for the number itself.
        metric: the file's name for both.
    """

    measure: Measure
    statistic: str
    metric: str


class Row(NamedTuple):
    """A table's row.

    Attributes:
        model: of which VLM.
        size_b: its parameters, billions.
        setting: how it was trained.
    """

    model: str
    size_b: float
    setting: str


class Entry(NamedTuple):
    """A number of the paper.

    Attributes:
        value: in its measure's unit.
        delta: its difference from the baseline; None where none is known.
        source: table or figure.
        confidence: a key of `MARKS`.
    """

    value: float
    delta: float | None
    source: str
    confidence: str

    @property
    def text(self) -> str:
        """The number with its mark, and the difference in brackets."""
        known = "" if self.delta is None else f" ({self.delta:+})"
        return f"{MARKS[self.confidence]} {self.value}{known}"


class Point(NamedTuple):
    """A number on a chart.

    Attributes:
        row: which row it belongs to.
        entry: the number; of several, their median.
        low: the lowest of several; None for a number alone.
        high: the highest of several.
    """

    row: Row
    entry: Entry
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Table:
    """One of the paper's tables; rows and columns keep the file's order.

    Attributes:
        name: in commands and addresses.
        key: in the file.
        columns: each in one unit.
        rows: models and settings.
        entries: the numbers; not every row has one in every column.
    """

    name: str
    key: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    entries: Mapping[tuple[Row, Column], Entry]

    @property
    def title(self) -> str:
        """What it is, for people."""
        return TITLES[self.key]

    @property
    def note(self) -> str:
        """What one must know to read it; "" if nothing."""
        told = [NOTES[self.key]] if self.key in NOTES else []
        if any(one.delta is not None for one in self.entries.values()):
            told.append("In brackets: the difference from the baseline.")
        return " ".join(told)

    @property
    def measures(self) -> list[Measure]:
        """What it tells of."""
        return list(dict.fromkeys(one.measure for one in self.columns))

    @property
    def benchmarks(self) -> list[str]:
        """Where its numbers were measured."""
        return list(dict.fromkeys(one.benchmark for one in self.measures))

    def columns_of(self, measure: Measure) -> list[Column]:
        """The columns of one measure."""
        return [one for one in self.columns if one.measure == measure]

    def extent(self, measure: Measure) -> tuple[float, float]:
        """What the axis of a measure's chart reaches over.

        A benchmark's charts in one unit have one scale from zero, so that they can be compared;
        those of several numbers a row have their own, else bars would be thinner than their marks.
        """
        several = any(one.statistic for one in self.columns_of(measure))
        values = [
            entry.value
            for (_, column), entry in self.entries.items()
            if column.measure == measure
            or (not several and _axis(column.measure) == _axis(measure))
        ]
        return (min(values) if several else 0.0), max(values)

    def of(self, benchmark: str) -> "Table":
        """What it holds of one benchmark."""
        columns = tuple(one for one in self.columns if one.measure.benchmark == benchmark)
        kept = {key: entry for key, entry in self.entries.items() if key[1] in columns}
        rows = tuple(row for row in self.rows if any(key[0] == row for key in kept))
        return replace(self, columns=columns, rows=rows, entries=kept)

    def sources(self, row: Row, columns: Sequence[Column]) -> str:
        """Where a row's numbers stand, each source once, behind its marks."""
        found = [self.entries[row, one] for one in columns if (row, one) in self.entries]
        known = dict.fromkeys((MARKS[one.confidence], one.source) for one in found)
        return ", ".join(f"{mark} {source}" for mark, source in known)

    def points(self, measure: Measure) -> list[Point]:
        """The numbers of a measure as a chart has them."""
        found = []
        columns = {one.statistic: one for one in self.columns_of(measure)}
        for row in self.rows:
            known = {
                name: self.entries[row, column]
                for name, column in columns.items()
                if (row, column) in self.entries
            }
            if "median" in known:
                low, high = (known[name].value for name in ("lowest", "highest"))
                found.append(Point(row, known["median"], low, high))
            if "" in known:
                found.append(Point(row, known[""]))
        return found


def _axis(measure: Measure) -> tuple[str, str]:
    return measure.benchmark, measure.unit


@cache
def tables() -> Mapping[str, Table]:
    """Every table by its name, in the file's order; each record is in one of them once."""
    by_table: dict[str, list[dict[str, Any]]] = {}
    for record in records():
        by_table.setdefault(record["table"], []).append(record)
    made = [_table(key, some) for key, some in by_table.items()]
    return {one.name: one for one in made}


def _table(key: str, some: Sequence[Mapping[str, Any]]) -> Table:
    entries = {}
    for record in some:
        place = _row(record), _column(record)
        if place in entries:
            raise ValueError(f"{key} has two numbers for {place}")
        known = (record["value"], record.get("delta"), record["source"], record["confidence"])
        entries[place] = Entry(*known)
    rows = tuple(dict.fromkeys(row for row, _ in entries))
    found = list(dict.fromkeys(column for _, column in entries))
    measures = dict.fromkeys(one.measure for one in found)
    # The columns of a measure stand side by side, under one head.
    columns = tuple(one for measure in measures for one in found if one.measure == measure)
    return Table(key.replace(" ", "-"), key, columns, rows, entries)


def _row(record: Mapping[str, Any]) -> Row:
    setting = record["setting"]
    if "downstream_vision_encoder" in record:
        setting += f"; then vision encoder {record['downstream_vision_encoder']}"
    return Row(record["model"], record["size_b"], setting)


def _column(record: Mapping[str, Any]) -> Column:
    metric, benchmark = record["metric"], record["benchmark"]
    stem, _, last = metric.rpartition("_")
    statistic = _STATISTICS.get(last, "")
    stem = stem if statistic else metric
    if stem == "avg_len":
        words, unit = axes()[benchmark], "sub-tasks out of 5"
    elif stem == "success_pct":
        words, unit = axes()[benchmark], "success, %"
    elif task := re.fullmatch(r"success_pct_(\w+)", stem):
        words, unit = f"success % in the {task[1]} task", "success, %"
    elif length := re.fullmatch(r"success_rate_len(\d)", stem):
        words = f"share of sequences with {length[1]} or more sub-tasks done in a row"
        unit = "share of sequences"
    elif stem == "relative_capability_gridlines":
        words = "distance from the weakest VLM on the figure's axis, in its grid lines"
        unit = "grid lines"
    else:
        raise ValueError(f"no unit is known of {metric}")
    return Column(Measure(benchmark, words, unit), statistic, metric)


def legend(table: Table) -> list[str]:
    """What the marks of a table mean."""
    used = {one.confidence for one in table.entries.values()}
    return [f"{MARKS[name]} {words}" for name, words in confidences().items() if name in used]


def lines(table: Table) -> list[str]:
    """A table as text, a block for each measure."""
    found = [f"{table.name}: {table.title} ({len(table.entries)} numbers)"]
    found += [table.note] if table.note else []
    for measure in table.measures:
        columns = table.columns_of(measure)
        head = ["model", "size", "setting", *(one.statistic or "value" for one in columns)]
        block = [[*head, "source"]]
        for row in table.rows:
            some = [table.entries.get((row, one)) for one in columns]
            if any(some):
                texts = [one.text if one else "" for one in some]
                about = [row.model, f"{row.size_b} B", row.setting]
                block.append([*about, *texts, table.sources(row, columns)])
        widths = [max(map(len, cells)) for cells in zip(*block, strict=True)]
        found += ["", f"{measure.benchmark}: {measure.words}"]
        for cells in block:
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            found.append(f"  {'  '.join(padded)}".rstrip())
    return [*found, "", *legend(table)]


def to_json(table: Table) -> dict[str, Any]:
    """A table as JSON has it: its columns, and its rows with their numbers."""
    return {
        "name": table.name,
        "title": table.title,
        "note": table.note,
        "columns": [
            {**one.measure._asdict(), "statistic": one.statistic, "metric": one.metric}
            for one in table.columns
        ],
        "rows": [
            {
                **row._asdict(),
                "entries": [
                    {
                        "benchmark": column.measure.benchmark,
                        "metric": column.metric,
                        **table.entries[row, column]._asdict(),
                    }
                    for column in table.columns
                    if (row, column) in table.entries
                ],
            }
            for row in table.rows
        ],
    }


def to_csv(table: Table) -> str:
    """A table as CSV, a line for each number."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["table", *Row._fields, "benchmark", "metric", "unit", *Entry._fields])
    for (row, column), entry in table.entries.items():
        about = [column.measure.benchmark, column.metric, column.measure.unit]
        writer.writerow([table.name, *row, *about, *entry])
    return written.getvalue()
