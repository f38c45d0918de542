"""The log of episodes: one line of JSON an event, only ever appended to.

A table needs a disk that can lock files; the data folder may be a mounted bucket that cannot. What
no run would bring back (live episodes, people's labels) is written there as well, and the table can
be rebuilt from it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.plain import episode_from_json, episode_to_json
from vlm4vla.episodes.rows import Entry, Label
from vlm4vla.errors import UserError

_FORMAT: Final = 1


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """An episode with all that is known about it, as plain values."""
    return {
        "episode": episode_to_json(entry.episode),
        "memberships": [list(one) for one in entry.memberships],
        "legacy_id": entry.legacy_id,
        "created": entry.created,
        "labels": [one._asdict() for one in entry.labels],
    }


def entry_from_json(plain: Mapping[str, Any]) -> Entry:
    """The entry of `entry_to_json`.

    Raises:
        UserError: its condition is not known here.
        KeyError, TypeError, ValueError: it is damaged.
    """
    return Entry(
        episode_from_json(plain["episode"]),
        tuple(Membership(*one) for one in plain["memberships"]),
        plain["legacy_id"],
        plain["created"],
        tuple(Label(**one) for one in plain["labels"]),
    )


class Log:
    """A log file.

    Args:
        path: where; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, what: str, line: Mapping[str, Any]) -> None:
        """Adds one line; it is on disk when this returns.

        Args:
            what: "episode", "label", "joined", "dropped" or "pinned".
            line: plain values.

        Raises:
            UserError: the disk is full or not writable; earlier lines are intact.
        """
        text = json.dumps({"format": _FORMAT, "what": what, **line}, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a+b") as log:
                log.seek(0, os.SEEK_END)
                if log.tell():
                    log.seek(-1, os.SEEK_END)
                    # A writer was killed within its line: it stays, alone, and is skipped.
                    text = text if log.read(1) == b"\n" else "\n" + text
                log.write(text.encode() + b"\n")
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise UserError(
                f"Could not write {self.path}: {error.strerror}.",
                "Free some disk space or choose another data folder (VLM4VLA_HOME); earlier "
                "lines are intact.",
            ) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines so far, oldest first; one that was cut off is skipped, nothing is changed.

        Raises:
            UserError: the log cannot be read, or a newer version wrote it.
        """
        try:
            with open(self.path, "rb") as log:
                for text in log:
                    try:
                        line = json.loads(text)
                    except (ValueError, RecursionError):
                        continue  # cut off by a crash, or none of ours
                    if not isinstance(line, dict):
                        continue
                    if line.get("format") != _FORMAT:
                        raise UserError(
                            f"{self.path} was written by a newer version of VLM4VLA.",
                            "Update VLM4VLA.",
                        )
                    yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"Could not read {self.path}: {error.strerror}.") from error
