"""What was measured of encoders: probes, CKA and shares, as small parquet files; needs no torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from vlm4vla.errors import UserError
from vlm4vla.files import replacing

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "representations"
"""What comes with the project; `vlm4vla represent` made it."""

PROBES: Final = "probes.parquet"
CKA: Final = "cka.parquet"
SHARES: Final = "shares.parquet"


class ProbeRow(NamedTuple):
    """What one probe reads of one layer.

    Attributes:
        checkpoint: name of the policy or VLM.
        digest: hash of its weights.
        family: its family.
        layer: such as "vision 3" or "query 5"; see `vlm4vla.representations.layers.Layer`.
        place: of the layer in its encoder, from 0.
        reads: whether the action head reads there.
        target: see `vlm4vla.representations.pictures.TARGETS`.
        probe: "linear" or "attentive".
        metric: "cm" or "balanced accuracy".
        value: over the test pictures.
        low: of its 95 % interval over scenes.
        high: of the same.
        n: answers judged.
        scenes: seeds that they are from.
        baseline: the same metric of whoever always answers the mean.
        random: the same probe at the same layer of the architecture with fresh weights.
        command: what made the row.
    """

    checkpoint: str
    digest: str
    family: str
    layer: str
    place: int
    reads: bool
    target: str
    probe: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    scenes: int
    baseline: float
    random: float
    command: str


class CkaRow(NamedTuple):
    """Linear CKA of a layer of one encoder with a layer of another, over the same pictures."""

    a: str
    layer_a: str
    b: str
    layer_b: str
    value: float
    n: int
    command: str


class ShareRow(NamedTuple):
    """How much of a map lies on the object that the sentence names.

    Attributes:
        checkpoint: name of the policy or VLM.
        digest: hash of its weights.
        family: its family.
        method: see `vlm4vla.attribution.shares.METHODS`.
        layer: such as "vision 3", or "query 2" for the attention of the query in the language
            model's second block.
        place: of the layer among those of its method, from 0.
        value: mean share over scenes, from 0 to 1.
        low: of its 95 % interval over scenes; NaN where it cannot be told.
        high: of the same.
        n: scenes.
        maps: that have any score; only these count.
        inferences: that were explained.
        area: the object's share of the picture, which a map that is the same everywhere has.
        command: what made the row.
    """

    checkpoint: str
    digest: str
    family: str
    method: str
    layer: str
    place: int
    value: float
    low: float
    high: float
    n: int
    maps: int
    inferences: int
    area: float
    command: str


def read_probes(folder: Path = SHIPPED) -> list[ProbeRow]:
    """The rows of a folder; none if it has no such file.

    Raises:
        UserError: the file is not one of this version.
    """
    return [ProbeRow(**row) for row in _read(folder / PROBES, ProbeRow._fields)]


def read_cka(folder: Path = SHIPPED) -> list[CkaRow]:
    """The rows of a folder; see `read_probes`."""
    return [CkaRow(**row) for row in _read(folder / CKA, CkaRow._fields)]


def read_shares(folder: Path = SHIPPED) -> list[ShareRow]:
    """The rows of a folder; see `read_probes`."""
    return [ShareRow(**row) for row in _read(folder / SHARES, ShareRow._fields)]


def write_probes(folder: Path, rows: Iterable[ProbeRow]) -> None:
    """Writes all rows, atomically."""
    _write(folder / PROBES, ProbeRow, list(rows))


def write_cka(folder: Path, rows: Iterable[CkaRow]) -> None:
    """Writes all rows, atomically."""
    _write(folder / CKA, CkaRow, list(rows))


def write_shares(folder: Path, rows: Iterable[ShareRow]) -> None:
    """Writes all rows, atomically."""
    _write(folder / SHARES, ShareRow, list(rows))


def _read(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} is damaged: {error}.", "Make it again.") from error
    if table.column_names != list(fields):
        raise UserError(f"{path} has other columns than this version.", "Make it again.")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


_TYPES: Final = {str: "string", int: "int32", bool: "bool_", float: "float32"}


def _write(path: Path, kind: type, rows: list[Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    hints = kind.__annotations__.items()
    schema = pyarrow.schema([(name, getattr(pyarrow, _TYPES[hint])()) for name, hint in hints])
    table = pyarrow.Table.from_pylist([row._asdict() for row in rows], schema)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
