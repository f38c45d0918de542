"""Episodes on disk: what was asked, what happened, and a video, by run id."""

import contextlib
import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vlm4vla import files, paths
from vlm4vla.errors import UserError
from vlm4vla.statistics import Rate, wilson

LIMIT_BYTES: Final = 2 * 2**30

_ID: Final = re.compile(r"[0-9a-f]{16}")
_EPISODE: Final = "episode.json"
_VIDEO: Final = "view.mp4"
_PIN: Final = "pinned"
_EVALUATED: Final = "evaluated"


@dataclass(frozen=True)
class Record:
    """An episode that came to its end.

    The first five fields say what was asked; the same five give the same episode again.

    Attributes:
        driver: "expert", or the hash of a checkpoint.
        task: what the scene was made for.
        seed: the scene's seed.
        instruction: the sentence as it was given.
        condition: what else was changed, such as a blanked picture; "" for nothing.
        goal: what success was measured by, as `str` of a `Goal`.
        outcome: how it ended, see `vlm4vla.eval.outcome.Kind`.
        sentence: the same for people.
        steps: control steps that were carried out.
        happenings: pairs of a step and an event.
    """

    driver: str
    task: str
    seed: int
    instruction: str
    condition: str
    goal: str
    outcome: str
    sentence: str
    steps: int
    happenings: tuple[tuple[int, str], ...]

    @property
    def run_id(self) -> str:
        """Sixteen hexadecimal digits, a function of what was asked."""
        asked = [self.driver, self.task, self.seed, self.instruction, self.condition]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    @property
    def goal_task(self) -> str:
        """The task that was carried out; a scene allows others than the one it was made for."""
        return self.goal.split(":")[0]


class Store:
    """Episodes below one folder; the oldest go when it grows beyond its limit.

    Args:
        folder: where; None for the data folder's `episodes`.
        limit_bytes: most that all episodes together may take. Pinned ones are never dropped.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder or paths.home() / "episodes"
        self._limit = limit_bytes
        self._read: dict[str, tuple[int, Record]] = {}

    def put(self, record: Record, video: bytes | None, *, evaluated: bool = False) -> None:
        """Keeps an episode; one with the same id is replaced.

        Args:
            record: what was asked and what happened.
            video: MP4 of the whole episode; None for none, which leaves one that is there.
            evaluated: it belongs to an evaluation, and goes on doing so when it is replaced.

        Raises:
            UserError: the disk is full or not writable; nothing kept before is lost.
        """
        folder = self._folder / record.run_id
        if video is not None:
            with files.replacing(folder / _VIDEO) as temporary:
                temporary.write_bytes(video)
        # Written last: an episode without it does not count.
        files.write_json(folder / _EPISODE, asdict(record))
        if evaluated:
            (folder / _EVALUATED).touch()
        self._drop_oldest(keep=record.run_id)

    def get(self, run_id: str) -> Record:
        """The episode of an id.

        Raises:
            UserError: there is none, or it is damaged.
        """
        folder = self._known(run_id)
        age = (folder / _EPISODE).stat().st_mtime_ns
        known_age, known = self._read.get(run_id, (0, None))
        if known is not None and known_age == age:
            return known
        try:
            content: dict[str, Any] = json.loads((folder / _EPISODE).read_text("utf-8"))
            happenings = tuple((int(step), str(event)) for step, event in content["happenings"])
            record = Record(**{**content, "happenings": happenings})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The stored episode {run_id} is damaged: {error}.", f"Delete {folder}."
            ) from error
        self._read[run_id] = (age, record)
        return record

    def video(self, run_id: str) -> Path | None:
        """The video of an episode, or None if none was made.

        Raises:
            UserError: there is no such episode.
        """
        video = self._known(run_id) / _VIDEO
        return video if video.is_file() else None

    def pin(self, run_id: str) -> None:
        """Keeps an episode for ever.

        Raises:
            UserError: there is no such episode.
        """
        (self._known(run_id) / _PIN).touch()

    def drop(self, run_id: str) -> None:
        """Deletes an episode.

        Raises:
            UserError: there is no such episode.
        """
        shutil.rmtree(self._known(run_id))

    def pinned(self) -> list[str]:
        """The episodes that are kept for ever, oldest first."""
        return [folder.name for folder in self._episodes() if (folder / _PIN).exists()]

    def evaluated(self) -> list[str]:
        """The episodes that belong to evaluations, oldest first."""
        return [folder.name for folder in self._episodes() if (folder / _EVALUATED).exists()]

    def ids(self) -> list[str]:
        """Every stored episode, oldest first."""
        return [folder.name for folder in self._episodes()]

    def rate(self, driver: str, task: str, *, evaluated: bool) -> Rate:
        """Successes among the stored episodes of a driver on a task, nothing else changed.

        An episode that is damaged, or is dropped meanwhile, is left out.

        Args:
            driver: see `Record`.
            task: what was to be done.
            evaluated: count only episodes of evaluations, not those that somebody picked.
        """
        found = []
        for run_id in self.evaluated() if evaluated else self.ids():
            with contextlib.suppress(UserError, FileNotFoundError):
                found.append(self.get(run_id))
        wanted = [r for r in found if (r.driver, r.goal_task, r.condition) == (driver, task, "")]
        return wilson(sum(record.outcome == "success" for record in wanted), len(wanted))

    def _known(self, run_id: object) -> Path:
        # The pattern keeps ids from naming anything outside the folder.
        named = isinstance(run_id, str) and _ID.fullmatch(run_id)
        if not named or not (self._folder / named[0] / _EPISODE).is_file():
            raise UserError(
                "There is no such stored episode.", "It may have been dropped: run it again."
            )
        return self._folder / named[0]

    def _episodes(self) -> list[Path]:
        written = []
        for episode in self._folder.glob(f"*/{_EPISODE}"):
            if _ID.fullmatch(episode.parent.name):
                written.append((episode.stat().st_mtime_ns, episode.parent))
        return [folder for _, folder in sorted(written)]

    def _drop_oldest(self, keep: str) -> None:
        folders = self._episodes()
        sizes = {folder: sum(f.stat().st_size for f in folder.iterdir()) for folder in folders}
        total = sum(sizes.values())
        for folder in folders:
            if total <= self._limit:
                return
            if folder.name != keep and not (folder / _PIN).exists():
                # Another visitor's episode may drop the same folder at this moment.
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]
