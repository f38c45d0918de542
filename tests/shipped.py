"""Episodes that are shipped, by id."""

from pathlib import Path

import pyarrow.parquet as pq

from vlm4vla.core.episode import Episode
from vlm4vla.episodes.parquet import import_
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.episodes.table import EpisodeTable


def shipped(results: str, keys: list[str], folder: Path) -> dict[str, Episode]:
    """Some episodes of a shipped file, by id; of the others only the ids are read.

    Args:
        results: the file's name without its suffix.
        keys: ids.
        folder: where a small file may be put.
    """
    some = pq.read_table(SHIPPED / f"{results}.parquet", filters=[("id", "in", keys)])
    pq.write_table(some, folder / f"{results}.parquet")
    table = EpisodeTable.in_memory()
    import_(folder / f"{results}.parquet", table)
    return {key: table.get(key) for key in keys}
