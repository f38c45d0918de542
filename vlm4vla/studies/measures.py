"""What was measured of a cell's policy and of what it started from, as rows; needs no torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla import paths
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.files import replacing
from vlm4vla.representations.pictures import TARGETS
from vlm4vla.studies.cell import Cell

OF_CELL: Final = "measures.json"
OF_ORIGIN: Final = "start.json"

PROBE: Final = "probe"
CKA: Final = "CKA"
ATTRIBUTION: Final = "attribution"

PROBED: Final = tuple(
    one
    for one in TARGETS
    if one.name in ("object", "named", "gripper", "height", "closed", "colour")
)
"""What cells are probed for. The fingerprint of what they are shown holds the truth about these, so
another one would make every cell that was measured another's."""

NAMED: Final = "named"
PROJECTOR: Final = "projector"
"""Target and layer of the backbone study's predictor."""

OCCLUSION: Final = "occlusion"
ATTENTION: Final = "attention"
METHODS: Final = (OCCLUSION, ATTENTION)
"""Attribution methods: one of changes, and one that costs next to nothing."""

OBJECT: Final = "object"
ANYWHERE: Final = "anywhere"
"""What is told of a method: the share of its score that lies on the named object, and the share of
the inferences at which it has any score; where a policy's first action is the same whatever it
sees, occlusion has none."""


class Row(NamedTuple):
    """One measure.

    Attributes:
        what: `PROBE` (linear), `CKA` (with the layer before training) or `ATTRIBUTION`.
        layer: such as "vision 3"; of an attribution its method.
        concept: what a probe is asked, one of `PROBED`; of an
            attribution `OBJECT` or `ANYWHERE`.
        score: in cm or as balanced accuracy; from 0 to 1 for CKA and shares.
        low: of its 95 % interval; None for CKA.
        high: of the same.
        n: answers judged; pictures of CKA; scenes with a share, inferences of `ANYWHERE`.
        baseline: of whoever always answers the mean; of a share the object's share of the
            picture, which a map that is the same everywhere would give it; else None.
    """

    what: str
    layer: str
    concept: str
    score: float
    low: float | None
    high: float | None
    n: int
    baseline: float | None


@dataclass(frozen=True)
class Origin:
    """What a cell's training starts from; cells that start from the same weights share it.

    Attributes:
        source: see `vlm4vla.studies.cell.Start`.
        digest: of its weights.
        init: how the weights start.
        preset: of the training command, which says how the query begins.
        seed: of new weights; None where the VLM has its own.
        step: name of what the VLM learned before; "" for nothing.
    """

    source: str
    digest: str
    init: str
    preset: str
    seed: int | None
    step: str

    @cached_property
    def name(self) -> str:
        """Twelve hexadecimal digits, a function of everything in it."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where what was measured of it is."""
        return paths.home() / "studies" / self.name


def origin_of(cell: Cell) -> Origin:
    """What a cell starts from."""
    start = cell.start
    seed = None if start.init == "vlm" else cell.seed
    step = cell.step.name if cell.step else ""
    return Origin(Path(start.source).name, start.digest, start.init, cell.preset, seed, step)


@dataclass(frozen=True)
class Measured:
    """What was measured of one network.

    Attributes:
        name: of the cell or of the origin.
        agent: digest of the policy; of an origin that of its VLM, "" where that is not kept.
        pictures: fingerprint of what it was shown, see `vlm4vla.studies.views.Views`.
        command: what made the rows.
        seconds: of processor time.
        rows: the measures.
    """

    name: str
    agent: str
    pictures: str
    command: str
    seconds: float
    rows: tuple[Row, ...]

    def find(self, what: str, layer: str, concept: str = "") -> Row | None:
        """The row of that name, if there is one."""
        wanted = what, layer, concept
        return next((row for row in self.rows if row[:3] == wanted), None)

    def write(self, path: Path) -> None:
        """Writes it, atomically, a row a line."""
        head = {name: value for name, value in asdict(self).items() if name != "rows"}
        rows = ",\n".join(json.dumps(_short(row)) for row in self.rows)
        columns = json.dumps(Row._fields)
        text = f'{json.dumps(head)[:-1]},\n"columns": {columns},\n"rows": [\n{rows}\n]}}\n'
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")


def _short(row: Row) -> list[Any]:
    return [float(f"{value:.5g}") if isinstance(value, float) else value for value in row]


class Measures(NamedTuple):
    """What is known of a cell.

    Attributes:
        trained: of its policy.
        before: of what it started from; None where that is not kept, is of another VLM or was
            shown other pictures.
    """

    trained: Measured
    before: Measured | None

    def sentences(self) -> list[str]:
        """The chief ones for people."""
        return [said for said in (self._probe(), self._cka(), *map(self._share, METHODS)) if said]

    def _probe(self) -> str:
        after = self.trained.find(PROBE, PROJECTOR, NAMED)
        if after is None:
            return ""
        first = self.before.find(PROBE, PROJECTOR, NAMED) if self.before else None
        before = f"{_cm(first)} before training, " if first else ""
        return (
            f"a linear probe of the projector is off the named object by {before}{_cm(after)} "
            f"after (the mean place is by {after.baseline:.1f})"
        )

    def _cka(self) -> str:
        rows = [one for one in self.trained.rows if one.what == CKA and "vision" in one.layer]
        if not rows:
            return ""
        return f"CKA of {rows[-1].layer} with its start is {rows[-1].score:.2f}"

    def _share(self, method: str) -> str:
        some = self.trained.find(ATTRIBUTION, method, ANYWHERE)
        if some is not None and some.score == 0:
            return f"{method} is nothing anywhere at {some.n} first looks"
        row = self.trained.find(ATTRIBUTION, method, OBJECT)
        if row is None or row.low is None or row.high is None or row.baseline is None:
            return ""
        among = ""
        if some is not None and some.score < 1:
            among = f", at the {some.score * some.n:.0f} of {some.n} first looks that have any"
        return (
            f"{100 * row.score:.1f} % of {method} lies on the named object (95 % "
            f"{100 * row.low:.1f} to {100 * row.high:.1f}; its area is {100 * row.baseline:.1f} %)"
            f"{among}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trained": _plain(self.trained),
            "before": _plain(self.before) if self.before else None,
        }


def _plain(found: Measured) -> dict[str, Any]:
    return {**asdict(found), "rows": [row._asdict() for row in found.rows]}


def _cm(row: Row) -> str:
    within = "" if row.low is None else f" (95 % {row.low:.1f} to {row.high:.1f})"
    return f"{row.score:.1f} cm{within}"


def read(folder: Path, name: str, file: str, agent: str = "") -> Measured | None:
    """What was measured here, else what is shipped; None where nothing is known.

    Args:
        folder: of the cell or the origin.
        name: of the same.
        file: `OF_CELL` or `OF_ORIGIN`.
        agent: digest of the policy that was measured; "" for any.
    """
    for path in (folder / file, SHIPPED / "cells" / f"{name}-{file}"):
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        known = found if isinstance(found, dict) else {}
        if known.get("name") == name and agent in ("", known.get("agent")):
            return _read(found)
    return None


def _read(found: Mapping[str, Any]) -> Measured | None:
    rows: Sequence[Sequence[Any]] = found.get("rows", ())
    # Of another version: it is made again.
    if tuple(found.get("columns", ())) != Row._fields:
        return None
    return Measured(
        name=found["name"],
        agent=found["agent"],
        pictures=found["pictures"],
        command=found["command"],
        seconds=found["seconds"],
        rows=tuple(Row(*row) for row in rows),
    )


def measures_of(cell: Cell, folder: Path, agent: str, vlm: str) -> Measures | None:
    """What was measured of a cell's policy.

    Args:
        cell: the cell.
        folder: the cell's own.
        agent: digest of the policy; that of another one is not this cell's measure.
        vlm: digest of what its training started from, see `vlm4vla.studies.trained.vlm_of`.
    """
    trained = read(folder, cell.name, OF_CELL, agent)
    if trained is None:
        return None
    origin = origin_of(cell)
    before = read(origin.folder, origin.name, OF_ORIGIN)
    comparable = (
        before is not None and before.pictures == trained.pictures and before.agent in ("", vlm)
    )
    return Measures(trained, before if comparable else None)
