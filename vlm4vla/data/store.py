"""Storing recorded datasets without their pictures, for `vlm4vla.data.restore`.

The file is one of `vlm4vla episodes export` with two more columns: what every episode of the
dataset has to come out as. A label is a function of the state and the goal, so labels are not
stored; their fingerprint is.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from vlm4vla.data.lerobot.reader import Dataset, open_dataset
from vlm4vla.data.record import SOURCE, name_of
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.parquet import export
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

WHOLE: Final = "dataset_fingerprint"
"""Column with `Recording.fingerprint`."""

VALUES: Final = "dataset_values_fingerprint"
"""Column with `Recording.fingerprint_of_values`."""


class Expected(NamedTuple):
    """What an episode came out as when it was recorded.

    Attributes:
        whole: `Recording.fingerprint`.
        values: `Recording.fingerprint_of_values`.
    """

    whole: str
    values: str


def store(
    folders: Iterable[Path], table: EpisodeTable, file: Path, report: Callable[[str], None]
) -> int:
    """Writes the episodes of datasets into one file, without pictures; how many.

    Args:
        folders: finished datasets of `vlm4vla collect`.
        table: that `collect` put their rows into.
        file: replaced when it is whole.
        report: called with a line for people after each dataset.

    Raises:
        UserError: a dataset is damaged, or the table lacks the row of one of its episodes.
    """
    chosen = EpisodeTable.in_memory()
    expected: dict[str, Expected] = {}
    for folder in folders:
        dataset = open_dataset(folder)
        found = _found(dataset, table)
        chosen.put_all(found.values())
        for number, entry in found.items():
            recording = dataset.recording(number)
            expected[entry.episode.id] = Expected(
                recording.fingerprint(dataset.episodes[number].info_text),
                recording.fingerprint_of_values(),
            )
        report(f"{folder}: {len(found)} episodes, {len(dataset)} frames")
    further = {
        WHOLE: {key: one.whole for key, one in expected.items()},
        VALUES: {key: one.values for key, one in expected.items()},
    }
    return export(chosen, file, further=further)


def expected_of(file: Path) -> Mapping[str, Expected]:
    """What the episodes of a file have to come out as, by id; empty where it does not say."""
    import pyarrow.parquet

    if not {WHOLE, VALUES} <= set(pyarrow.parquet.read_schema(file).names):
        return {}
    columns = pyarrow.parquet.read_table(file, columns=["id", WHOLE, VALUES]).to_pydict()
    rows = zip(columns["id"], columns[WHOLE], columns[VALUES], strict=True)
    return {key: Expected(whole, values) for key, whole, values in rows}


def _found(dataset: Dataset, table: EpisodeTable) -> dict[int, Entry]:
    """The row of every episode of a dataset, by the episode's number."""
    name = dataset.root.resolve().name
    rows = {
        (entry.episode.spec.task, entry.episode.spec.seed, name_of(entry.episode.agent)): entry
        for entry in table.entries(Filter(kind=SOURCE, name=name))
    }
    found = {}
    for row in dataset.episodes:
        key = row.info and (row.info.task, row.info.seed, row.info.driver)
        if key not in rows:
            raise UserError(
                f"The table of episodes lacks episode {row.index} of {dataset.root}.",
                "Store it where it was collected, or import the rows: `vlm4vla episodes import`.",
            )
        found[row.index] = rows[key]
    return found
