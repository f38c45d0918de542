"""The first use of a table: made from the log, and filled with what is there already."""

from pathlib import Path
from typing import Final

from vlm4vla.episodes.films import Films
from vlm4vla.episodes.legacy import import_legacy
from vlm4vla.episodes.parquet import import_shipped
from vlm4vla.episodes.rebuild import mark_of, replay
from vlm4vla.episodes.table import EpisodeTable

SHIPPED: Final = Path(__file__).parents[2] / "assets" / "results"
"""Results that come with the project, as exported tables."""


def prepare(
    table: EpisodeTable, films: Films, *, legacy: Path | None = None, shipped: Path | None = None
) -> None:
    """Makes a table ready for use; what was brought in once is not brought in again.

    A table of an older version is brought up to date. Then comes the log, of which the table may
    know nothing because its disk was lost; then the folders of earlier versions and the results
    that are shipped. Where the table knows an episode already, it keeps its own. Where there is
    nothing to bring in, nothing is made.

    Args:
        table: which.
        films: of its episodes.
        legacy: data folder that an earlier version may have written into; None for none.
        shipped: folder of exported tables; None for none.

    Raises:
        UserError: the disk is full or not writable, or something is damaged. The table can be used
            even so, with what it holds.
    """
    table.database.upgrade()
    if table.log and table.log.path.exists() and not table.imported(mark_of(table.log)):
        # Not only where the table is absent: whoever puts the first episode makes it.
        films.reconcile(replay(table.log, table).pinned)
        table.mark_imported(mark_of(table.log), table.log.path.name)
    if legacy:
        import_legacy(legacy, table, films)
    if shipped:
        import_shipped(table, shipped)
