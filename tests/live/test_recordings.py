"""The recordings that come with the app: what the policy's camera saw."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from pages.site import RECORDINGS
from vlm4vla.core.environment import Pose
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.live.recordings import film_seen
from vlm4vla.suites.registry import TABLETOP


def frames(film: Path) -> list[Any]:
    with av.open(str(film)) as container:
        return [one.to_ndarray(format="rgb24").astype(int) for one in container.decode(video=0)]


class OneSimulator:
    """Lends an environment of this process."""

    suite = TABLETOP

    def __init__(self, environment: Any) -> None:
        self.environment = environment

    @contextlib.contextmanager
    def lend(self) -> Iterator[Any]:
        yield self.environment


def test_what_the_camera_saw_has_a_frame_for_each_of_the_films_frames() -> None:
    recordings = Archive.bundled(RECORDINGS)
    for key in recordings.oldest_first():
        film, seen = recordings.films.path(key), recordings.films.seen(key)
        assert film is not None
        assert seen is not None
        assert len(frames(seen)) == len(frames(film))
        assert frames(seen)[0].shape == (128, 128, 3)
        assert seen.stat().st_size < 30_000


def test_it_is_drawn_from_the_poses_and_stays_on_the_last_one(
    environment: Any, tmp_path: Path
) -> None:
    shipped = Archive.bundled(RECORDINGS)
    key = min(shipped.oldest_first(), key=lambda one: shipped.table.get(one).steps)
    episode = shipped.table.get(key)
    archive = Archive(shipped.table.in_memory(), Films(shipped.table, tmp_path))
    archive.table.put(episode, [])
    film_seen(OneSimulator(environment), archive)  # type: ignore[arg-type]
    found = frames(tmp_path / "seen" / f"{key}.mp4")
    # Every step, the start, and a second at 20 pictures.
    assert len(found) == episode.steps + 1 + 20
    for step in (0, episode.steps // 2, episode.steps):
        pose = Pose(episode.trace.joints[step], episode.trace.poses[step])
        drawn = environment.draw(episode.spec, pose, ("policy",)).images["policy"]
        apart = [np.abs(one - drawn).mean() for one in found]
        assert apart[step] < 4
        assert apart[step] <= min(apart) + 0.2
    assert np.abs(found[episode.steps] - found[-1]).mean() < 1
