"""The archive: the table of episodes and the films that belong to it."""

from pathlib import Path
from typing import Final, NamedTuple

from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.log import Log
from vlm4vla.episodes.plain import episode_from_json
from vlm4vla.episodes.table import EpisodeTable

LOG: Final = "episodes.jsonl"
"""The file of a bundled archive that holds its episodes."""


class Archive(NamedTuple):
    """A table of episodes and their films."""

    table: EpisodeTable
    films: Films

    @classmethod
    def open(cls) -> "Archive":
        """The archive of this machine."""
        table = EpisodeTable()
        return cls(table, Films(table))

    @classmethod
    def bundled(cls, folder: Path) -> "Archive":
        """An archive that travels as a log and its films; its folder is only read.

        Args:
            folder: holds the log and `ID.mp4` for every episode in it.

        Raises:
            UserError: the log cannot be read.
        """
        table = EpisodeTable.in_memory()
        for line in Log(folder / LOG).read():
            table.put(
                episode_from_json(line["episode"]),
                [Membership("recording")],
                legacy_id=line["legacy_id"],
                created=line["created"],
            )
        return cls(table, Films(table, folder))

    def oldest_first(self) -> list[str]:
        """The ids of all episodes."""
        return [row.id for row in self.table.query(order="oldest", limit=self.table.count())]
