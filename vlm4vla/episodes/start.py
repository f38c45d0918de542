"""The first use of a table: made from the log, and filled with what is there already."""

from pathlib import Path

from vlm4vla.episodes.films import Films
from vlm4vla.episodes.legacy import import_legacy
from vlm4vla.episodes.parquet import import_shipped
from vlm4vla.episodes.rebuild import rebuild
from vlm4vla.episodes.table import EpisodeTable


def prepare(
    table: EpisodeTable,
    films: Films,
    *,
    legacy: Path | None = None,
    shipped: Path | None = None,
) -> None:
    """Makes a table ready for use; what was brought in once is not brought in again.

    An absent table is made from the log. Then come the folders of earlier versions and the results
    that are shipped, each of which keeps what the table knows better.

    Args:
        table: which.
        films: of its episodes.
        legacy: data folder that an earlier version wrote into; None for none.
        shipped: folder of exported tables; None for none.

    Raises:
        UserError: the disk is full or not writable, or something is damaged. The table can be used
            even so, with what it holds.
    """
    if not table.database.exists:
        rebuild(table, films)
    if legacy:
        import_legacy(legacy, table, films)
    if shipped:
        import_shipped(table, shipped)
