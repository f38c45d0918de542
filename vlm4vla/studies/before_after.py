"""Before and after: what linear probes read of a measured cell's layers and of its start's."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vlm4vla.representations.pictures import Target
from vlm4vla.representations.summary import part_of, with_unit
from vlm4vla.studies.measures import CKA, PROBE, PROBED, PROJECTOR, Measures, Row
from vlm4vla.studies.status import measured
from vlm4vla.studies.study import Member, Study

QUERY: Final = "query"
"""Part of the layers at the action query."""

_HEAD: Final = (
    "study",
    "cell",
    "level",
    "family",
    "learning_rate",
    "seed",
    "concept",
    "metric",
    "layer",
    "before",
    "before_low",
    "before_high",
    "after",
    "after_low",
    "after_high",
    "n",
    "baseline",
    "cka",
)


@dataclass(frozen=True)
class LayerChange:
    """A layer before and after a cell's training.

    Attributes:
        layer: such as "vision 3".
        before: a linear probe of what the training started from; None where that is not known.
        after: the same probe of the cell's policy; None where its score could not be told.
        cka: CKA of the layer after training with itself before; None where that is not known.
    """

    layer: str
    before: Row | None
    after: Row | None
    cka: float | None

    @property
    def same(self) -> bool:
        """Whether score and interval are what they were, as of a layer that did not learn."""
        before, after = self.before, self.after
        return before is not None and after is not None and before[3:6] == after[3:6]

    @property
    def overlap(self) -> bool | None:
        """Whether the two intervals share a point, which is no test; None where one is missing."""
        before, after = self.before, self.after
        if before is None or after is None:
            return None
        if before.low is None or before.high is None or after.low is None or after.high is None:
            return None
        return before.low <= after.high and after.low <= before.high


@dataclass(frozen=True)
class CellChange:
    """What a cell's training did to what linear probes read, layer by layer.

    Attributes:
        study: name of the study; a cell that stands in several has a change in each.
        member: the cell in it.
        target: what the probes are asked.
        layers: in the order in which they are computed.
        command: what made the numbers.
    """

    study: str
    member: Member
    target: Target
    layers: tuple[LayerChange, ...]
    command: str

    @property
    def label(self) -> str:
        """The cell for people, with its study."""
        return f"{self.study}: {self.member.label}"

    def at(self, layer: str) -> LayerChange | None:
        """The layer of that name, if it was measured."""
        return next((one for one in self.layers if one.layer == layer), None)

    @property
    def read(self) -> str:
        """The layer that the action head reads: the last one at the query; "" without one."""
        return next((row.layer for row in reversed(self.layers) if part_of(row.layer) == QUERY), "")

    @property
    def baseline(self) -> float | None:
        """Of whoever always answers the mean or the same; None where it is not known."""
        rows = (row for one in self.layers for row in (one.after, one.before) if row)
        return next((row.baseline for row in rows if row.baseline is not None), None)

    def sentence(self) -> str:
        """What is seen at the projector and at the action head, no more than the intervals say."""
        error = self.target.metric == "cm"
        how = "to" if error else "with a balanced accuracy of"
        said = []
        if compared := self._compared(PROJECTOR):
            meaning = self.target.meaning
            said.append(f"At the projector a linear probe tells {meaning} {how} {compared}.")
        if compared := self._compared(self.read):
            said.append(f"At {self.read}, which the action head reads, {how} {compared}.")
        if not said:
            return "Neither the projector nor what the action head reads was probed."
        if self.baseline is not None:
            always = "the mean is off by" if error else "the same has"
            baseline = with_unit(self.baseline, self.target.metric)
            said.append(f"Whoever always answers {always} {baseline}.")
        return " ".join(said)

    def _compared(self, layer: str) -> str:
        """Both scores of a layer and whether their intervals overlap; "" without one after."""
        found = self.at(layer)
        if found is None or found.after is None:
            return ""
        said = f"{self._told(found.after)} after training"
        if found.before is None:
            return f"{said} (what it started from is not known)"
        if found.same:
            return f"{said}, the same as before"
        said += f" and {self._told(found.before)} before"
        if found.overlap is None:
            return said
        return f"{said}: the intervals {'' if found.overlap else 'do not '}overlap"

    def _told(self, row: Row) -> str:
        said = with_unit(row.score, self.target.metric)
        if row.low is None or row.high is None:
            return said
        low, high = (with_unit(value, self.target.metric) for value in (row.low, row.high))
        return f"{said} (95 % {low.split(' ')[0]} to {high})"


def changes(studies: Iterable[Study], concept: str) -> list[CellChange]:
    """The changes of all measured cells, study by study.

    Args:
        studies: which.
        concept: name of one of `vlm4vla.studies.measures.PROBED`.
    """
    target = next(one for one in PROBED if one.name == concept)
    known: dict[str, Measures | None] = {}
    found = []
    for study in studies:
        for member in study.members:
            name = member.cell.name
            if name not in known:
                known[name] = measured(member.cell)
            if (measures := known[name]) is not None:
                layers = _layers(measures, concept)
                command = measures.trained.command
                found.append(CellChange(study.name, member, target, layers, command))
    return found


def tally(found: Sequence[CellChange], layer: str = PROJECTOR) -> str:
    """How many cells' intervals part at a layer, and which way; each cell is counted once."""
    cells = {one.member.cell.name: one for one in found}.values()
    both = [
        (one.before.score, one.after.score, one.overlap)
        for cell in cells
        if (one := cell.at(layer)) and one.before and one.after and one.overlap is not None
    ]
    if not both:
        return ""
    parted = [(before, after) for before, after, overlap in both if not overlap]
    if not parted:
        which = "the one measured cell" if len(both) == 1 else f"all {len(both)} measured cells"
        return f"In {which} the intervals before and after training overlap."
    lower = sum(after < before for before, after in parted)
    error = next(iter(cells)).target.metric == "cm"
    better = lower if error else len(parted) - lower
    return (
        f"In {len(parted)} of {len(both)} measured cells the intervals before and after training "
        f"do not overlap: {better} better after it, {len(parted) - better} worse."
    )


def to_csv(found: Iterable[CellChange], layer: str = "") -> str:
    """The numbers as CSV, a line a cell and layer.

    Args:
        found: which cells.
        layer: the only one; "" for all.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for one in found:
        cell = one.member.cell
        about = (one.study, cell.name, one.member.level, cell.start.family, cell.learning_rate)
        for row in one.layers:
            if layer not in ("", row.layer):
                continue
            judged = row.after or row.before
            writer.writerow(
                (
                    *about,
                    cell.seed,
                    one.target.name,
                    one.target.metric,
                    row.layer,
                    *_ends(row.before),
                    *_ends(row.after),
                    *((judged.n, judged.baseline) if judged else (None, None)),
                    row.cka,
                )
            )
    return out.getvalue()


def _ends(row: Row | None) -> tuple[float | None, float | None, float | None]:
    return (row.score, row.low, row.high) if row else (None, None, None)


def _layers(measures: Measures, concept: str) -> tuple[LayerChange, ...]:
    trained, before = measures
    names = dict.fromkeys(row.layer for row in trained.rows if row.what in (PROBE, CKA))
    found = []
    for layer in names:
        alike = trained.find(CKA, layer)
        found.append(
            LayerChange(
                layer,
                before.find(PROBE, layer, concept) if before else None,
                trained.find(PROBE, layer, concept),
                alike.score if alike else None,
            )
        )
    return tuple(found)
