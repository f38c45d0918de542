"""Which rows belong together, and what they say in a sentence; needs no torch."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from vlm4vla.representations.pictures import TARGETS
from vlm4vla.representations.results import CkaRow, ProbeRow, ShareRow


def encoders(rows: Sequence[ProbeRow | ShareRow]) -> list[str]:
    """Names of the encoders in the order in which they were measured."""
    return list(dict.fromkeys(row.checkpoint for row in rows))


def layers(rows: Sequence[ProbeRow]) -> list[str]:
    """Names of all layers, in the order in which they are computed."""
    parts = list(dict.fromkeys(part_of(row.layer) for row in sorted(rows, key=lambda r: r.place)))

    def order(name: str) -> tuple[int, int]:
        return parts.index(part_of(name)), int(name.rpartition(" ")[2]) if " " in name else 0

    return sorted({row.layer for row in rows}, key=order)


def part_of(layer: str) -> str:
    """Such as "vision" of "vision 3"."""
    return layer.split(" ")[0]


def line(rows: Sequence[ProbeRow], encoder: str, target: str, probe: str) -> list[ProbeRow]:
    """What one probe reads of one encoder, layer by layer, where any answer could be judged."""
    found = [
        row
        for row in rows
        if (row.checkpoint, row.target, row.probe) == (encoder, target, probe) and row.n
    ]
    return sorted(found, key=lambda row: row.place)


def with_unit(value: float, metric: str) -> str:
    """A value as people read it."""
    return f"{value:.1f} cm" if metric == "cm" else f"{100 * value:.0f} %"


def sentence(rows: Sequence[ProbeRow], chosen: Sequence[str], target: str) -> str:
    """What the layer that the action head reads knows, by linear probes, for up to two encoders.

    Args:
        rows: all of them.
        chosen: the encoders; the first two are spoken of.
        target: see `TARGETS`.

    Returns:
        "" where no encoder has such a row.
    """
    meaning = next(one.meaning for one in TARGETS if one.name == target)
    read = [row for name in chosen[:2] for row in line(rows, name, target, "linear") if row.reads]
    if not read:
        return ""
    told = [f"{row.checkpoint} knows {meaning} to {_told(row)}" for row in read[:1]]
    if read[0].metric != "cm":
        told = [f"{row.checkpoint} tells {meaning} with {_told(row)}" for row in read[:1]]
    told += [
        f"{row.checkpoint} {'to' if row.metric == 'cm' else 'with'} {_told(row)}"
        for row in read[1:]
    ]
    first = read[0]
    return (
        f"Where the action head reads, {'; '.join(told)}. Fresh weights: "
        f"{with_unit(first.random, first.metric)}; always the same answer: "
        f"{with_unit(first.baseline, first.metric)}."
    )


def _told(row: ProbeRow) -> str:
    low, high = (with_unit(value, row.metric) for value in (row.low, row.high))
    return f"{with_unit(row.value, row.metric)} (95 % {low.split(' ')[0]} to {high})"


def best(rows: Sequence[ProbeRow], chosen: Sequence[str], target: str, probe: str) -> str:
    """The layer of each encoder that tells most, found by looking at the same test scenes."""
    found = []
    for name in chosen:
        if some := line(rows, name, target, probe):
            better = min if some[0].metric == "cm" else max
            one = better(some, key=lambda row: row.value)
            found.append(f"{name} {one.layer} ({with_unit(one.value, one.metric)})")
    return f"Best layer, chosen after looking: {', '.join(found)}." if found else ""


def share_line(rows: Sequence[ShareRow], encoder: str, method: str) -> list[ShareRow]:
    """The shares of one method's maps of one encoder, layer by layer."""
    found = [row for row in rows if (row.checkpoint, row.method) == (encoder, method)]
    return sorted(found, key=lambda row: row.place)


def share_sentence(rows: Sequence[ShareRow], encoders: Sequence[str], method: str) -> str:
    """In which layers more of a method's maps lies on the named object than its area.

    Args:
        rows: all of them.
        encoders: those that are spoken of.
        method: "attention" or "grad-cam".

    Returns:
        "" where no encoder has such a row.
    """
    told = []
    for name in encoders:
        some = share_line(rows, name, method)
        over = [row for row in some if row.low > row.area]
        layers_ = ", ".join(f"{row.layer} ({100 * row.value:.1f} %)" for row in over) or "no layer"
        if some:
            told.append(f"{name} in {layers_}")
    if not told:
        return ""
    area = next(row.area for row in rows if row.method == method)
    return (
        f"More of {_MAPS[method]} than its area ({100 * area:.1f} %) lies on the named object, by "
        f"the whole 95 % interval: {'; '.join(told)}."
    )


_MAPS: Final = {"attention": "the query's attention", "grad-cam": "Grad-CAM"}


def to_csv(rows: Iterable[ProbeRow | CkaRow | ShareRow]) -> str:
    """Rows as CSV with their names as head; nothing for no row."""
    out = io.StringIO()
    writer: Any = None
    for row in rows:
        if writer is None:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(row._fields)
        writer.writerow(row)
    return out.getvalue()
