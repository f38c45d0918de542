"""The training cache: a dataset as plain arrays in files that are mapped into memory.

A picture is read by touching its page: no decoding, no copy, any order. The cache holds nothing
that the dataset does not; it can be deleted and made again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vlm4vla.data.lerobot.integrity import fingerprint_of
from vlm4vla.data.lerobot.layout import OURS
from vlm4vla.data.lerobot.reader import Dataset, open_dataset
from vlm4vla.data.lerobot.schema import CHUNK, MAX_THINGS, EpisodeInfo, Recording, episode_info
from vlm4vla.data.lerobot.tables import damaged
from vlm4vla.errors import UserError
from vlm4vla.files import replacing_folder, sha256_of
from vlm4vla.suites.tabletop.instructions import Goal, Task
from vlm4vla.suites.tabletop.scene import Scene, sample_scene
from vlm4vla.suites.tabletop.types import POLICY_PIXELS

_DESCRIPTION: Final = "cache.json"

_HASHES: Final = "sha256"
"""What `cache.json` calls the hashes of the arrays; caches of earlier versions have none."""


class Split(NamedTuple):
    """Frame numbers of the frames to learn from and of those to check on, both ascending."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class Cache:
    """Arrays over N frames of E episodes, mapped read-only.

    Attributes:
        images: (N, 128, 128, 3) uint8 RGB.
        episode: (N,) int32 which of `episodes` the frame is from.
        step: (N,) int32 control steps since the episode began; 0 marks its first frame.
        state: (N, 4) float32 centre between the finger tips in the world frame and the opening,
            metres.
        action: (N, 7) float32 the action that was executed, simulator units.
        noisy: (N,) bool noise was added to the executed action.
        positions: (N, 5, 3) float32 centres of the things, metres; zeros after the last thing.
        pixels: (N, 5) int32 pixels of the picture that show the thing; zeros after the last.
        chunks: (M, 4, 7) float32 labels of all frames, goal by goal, simulator units.
        offsets: (N + 1,) int64 labels of frame i are `chunks[offsets[i] : offsets[i + 1]]`, in the
            order of `goals(episode[i])`.
        success: (N,) bool whether the followed goal's condition held after the action.
        episodes: what is true of each episode.
        fingerprint: of the datasets that the cache was made from.
    """

    images: NDArray[np.uint8]
    episode: NDArray[np.int32]
    step: NDArray[np.int32]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    noisy: NDArray[np.bool_]
    positions: NDArray[np.float32]
    pixels: NDArray[np.int32]
    chunks: NDArray[np.float32]
    offsets: NDArray[np.int64]
    success: NDArray[np.bool_]
    episodes: tuple[EpisodeInfo, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.episode)

    @property
    def asked(self) -> str:
        """SHA-256 of what the episodes were to be: scene, goal, sentence, start, noise, versions.

        `fingerprint` holds what came of it, to the last bit, and so differs between kinds of
        machine; this does not.
        """
        return asked_of(self.episodes)

    def labels(self, frame: int) -> NDArray[np.float32]:
        """(g, 4, 7) the expert's next actions for each valid goal at a frame, simulator units."""
        return self.chunks[self.offsets[frame] : self.offsets[frame + 1]]

    def scene(self, episode: int) -> Scene:
        """The scene of an episode, as it began."""
        info = self.episodes[episode]
        return sample_scene(info.layout, info.seed)

    def goals(self, episode: int) -> tuple[Goal, ...]:
        """The valid goals of an episode, in the order of the labels."""
        return self.scene(episode).goals()

    def split(self, validation: float = 0.05, tasks: Sequence[Task] = ()) -> Split:
        """Divides the frames by scene seed, so that no scene is on both sides.

        A seed is on the same side in every dataset, so frames that are added later never take a
        scene from those to learn from. Where chance puts all of several seeds on one side, as with
        a handful of episodes, the one that came nearest to the other is there.

        Args:
            validation: the expected share of seeds to check on; 0 holds none back.
            tasks: both sides are to have scenes with goals of these; empty for all.
        """
        draws = np.array([_uniform(info.seed) for info in self.episodes])
        held = draws < validation
        wanted = [
            not tasks or any(goal.split(":")[0] in tasks for goal in info.goals)
            for info in self.episodes
        ]
        matter = draws[np.array(wanted, bool)]
        if validation > 0 and len(np.unique(matter)) > 1:
            if matter.min() >= validation:
                held |= draws == matter.min()
            elif matter.max() < validation:
                held &= draws != matter.max()
        checked = held[self.episode]
        return Split(np.flatnonzero(~checked), np.flatnonzero(checked))


def asked_of(episodes: Sequence[EpisodeInfo]) -> str:
    """See `Cache.asked`."""
    digest = hashlib.sha256()
    for info in episodes:
        if info.start:
            # A micrometre is far above what a machine's rounding can move a start by.
            x, y, z = (round(value, 6) for value in info.start)
            info = replace(info, start=(x, y, z))
        digest.update(info.to_json().encode())
    return digest.hexdigest()


def _uniform(seed: int) -> float:
    return float(np.random.default_rng([seed, 3]).random())


def build_cache(
    datasets: Sequence[Path], target: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """Makes one cache of one or several datasets, one after the other.

    Every episode is compared with the fingerprint of what was recorded.

    Args:
        datasets: folders made by `vlm4vla collect`.
        target: the folder to make; a cache that is there is replaced when the new one is whole.
        progress: called now and then with the frames done and the frames in all.

    Raises:
        UserError: a dataset is damaged or changed, has no labels, is named twice, shares an episode
            with another, or was recorded with other scenes than this version draws from the same
            seeds; or the disk is full. What was there is kept.
    """
    opened = [open_dataset(path) for path in datasets]
    _refuse_twice(opened)
    if target.exists() and not (target / _DESCRIPTION).is_file():
        raise UserError(f"{target} is there and is no cache.", "Choose another folder.")
    infos = [_checked(dataset, row.index) for dataset in opened for row in dataset.episodes]
    # Links in either path would send a relative one astray.
    home = os.path.realpath(target)
    with replacing_folder(target) as building:
        _fill(opened, infos, building, progress or (lambda done, total: None))
        description = {
            "datasets": [os.path.relpath(os.path.realpath(path), home) for path in datasets],
            "fingerprints": [dataset.fingerprint for dataset in opened],
            "episodes": [info.to_json() for info in infos],
            _HASHES: {name: sha256_of(building / f"{name}.npy") for name in _hashed()},
        }
        (building / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", "utf-8")


def _refuse_twice(datasets: Sequence[Dataset]) -> None:
    """Frames that are there twice would count twice in every draw and every rate."""
    seen: dict[str, Path] = {}
    for dataset in datasets:
        # A copy is the same dataset; one that we did not write has no fingerprint.
        name = dataset.fingerprint or os.path.realpath(dataset.root)
        if name in seen:
            raise UserError(
                f"{dataset.root} holds the episodes of {seen[name]}: each would count twice.",
                "Name each dataset once.",
            )
        seen[name] = dataset.root
    _refuse_shared(datasets)


def _refuse_shared(datasets: Sequence[Dataset]) -> None:
    met: dict[str, tuple[Path, int]] = {}
    for dataset in datasets:
        for row in dataset.episodes:
            if row.fingerprint in met:
                root, index = met[row.fingerprint]
                which = f" ({row.info.task} of seed {row.info.seed})" if row.info else ""
                raise UserError(
                    f"Episode {row.index} of {dataset.root}{which} is episode {index} of {root}: "
                    "it would count twice.",
                    "Leave one of the two datasets out, or collect it again from another "
                    "--first-seed.",
                )
        met |= {row.fingerprint: (dataset.root, row.index) for row in dataset.episodes}
        # Where nothing was written down, nothing is known to be the same.
        met.pop("", None)


def _checked(dataset: Dataset, episode: int) -> EpisodeInfo:
    """What is true of an episode, after comparing it with the scene of its seed."""
    info = dataset.episodes[episode].info
    if info is None:
        raise UserError(
            f"{dataset.root} has no labels for its instructions.",
            "Use a dataset made by `vlm4vla collect`.",
        )
    goals = tuple(str(goal) for goal in sample_scene(info.layout, info.seed).goals())
    if goals != info.goals:
        raise UserError(
            f"{dataset.root} was recorded with other scenes: seed {info.seed} of layout "
            f"{info.layout} now gives other goals than episode {episode} has labels for.",
            "Collect it again with this version.",
        )
    return info


def _fill(
    datasets: Sequence[Dataset],
    infos: Sequence[EpisodeInfo],
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    lengths = [row.length for dataset in datasets for row in dataset.episodes]
    frames = sum(lengths)
    labels = sum(n * len(info.goals) for n, info in zip(lengths, infos, strict=True))
    shapes = _shapes(frames, labels)
    arrays = {name: _reserve(folder / f"{name}.npy", *shapes[name]) for name in shapes}
    sources = [(dataset, row.index) for dataset in datasets for row in dataset.episodes]
    found: dict[Path, list[str]] = {dataset.root: [] for dataset in datasets}
    frame = label = 0
    # Decoding releases the interpreter lock; the next episodes are decoded while one is stored.
    with ThreadPoolExecutor(max_workers=2) as pool:
        window: list[Any] = []
        for number in range(len(sources)):
            while len(window) < 4 and number + len(window) < len(sources):
                dataset, episode = sources[number + len(window)]
                window.append(pool.submit(dataset.recording, episode))
            recording = window.pop(0).result()
            dataset, episode = sources[number]
            row = dataset.episodes[episode]
            found[dataset.root].append(row.fingerprint or recording.fingerprint(row.info_text))
            _store(arrays, recording, number, frame, label)
            frame += len(recording)
            label += len(recording) * recording.chunks.shape[1]
            progress(frame, frames)
    for array in arrays.values():
        array.flush()
    for dataset in datasets:
        if fingerprint_of(found[dataset.root]) != dataset.fingerprint:
            # Which episode it is stands nowhere: none has a fingerprint of its own.
            raise UserError(
                f"{dataset.root} does not hold what was recorded: its episodes are not those whose "
                f"fingerprint stands in {OURS}.",
                "Copy the dataset again, or collect it again.",
            )


def _shapes(frames: int, labels: int) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
    return {
        "images": ((frames, POLICY_PIXELS, POLICY_PIXELS, 3), np.uint8),
        "episode": ((frames,), np.int32),
        "step": ((frames,), np.int32),
        "state": ((frames, 4), np.float32),
        "action": ((frames, 7), np.float32),
        "noisy": ((frames,), np.bool_),
        "positions": ((frames, MAX_THINGS, 3), np.float32),
        "pixels": ((frames, MAX_THINGS), np.int32),
        "chunks": ((labels, CHUNK, 7), np.float32),
        "offsets": ((frames + 1,), np.int64),
        "success": ((frames,), np.bool_),
    }


def _reserve(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap[Any, Any]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    # A mapped file with holes kills the process when the disk fills; a reserved one cannot.
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, max(path.stat().st_size, 1))
    return array


def _store(
    arrays: dict[str, np.memmap[Any, Any]],
    recording: Recording,
    episode: int,
    frame: int,
    label: int,
) -> None:
    length, goals = recording.chunks.shape[:2]
    things = recording.positions.shape[1]
    here = slice(frame, frame + length)
    for name in ("images", "state", "action", "noisy", "success"):
        arrays[name][here] = getattr(recording, name)
    arrays["episode"][here] = episode
    arrays["step"][here] = np.arange(length)
    arrays["positions"][here, :things] = recording.positions
    arrays["pixels"][here, :things] = recording.pixels
    arrays["chunks"][label : label + length * goals] = recording.chunks.reshape(-1, CHUNK, 7)
    arrays["offsets"][frame + 1 : frame + length + 1] = label + goals * np.arange(1, length + 1)


def open_cache(folder: Path) -> Cache:
    """Maps a cache into memory.

    The datasets that it was made from need not be there; those that are must not have changed.
    Every number is compared with the cache's own hashes; pictures, which are gigabytes, are not.

    Raises:
        UserError: there is no cache, a file of it is missing or damaged, or it is stale.
    """
    path = folder / _DESCRIPTION
    if not path.is_file():
        raise UserError(
            f"{folder} holds no training cache.", "Make one with `vlm4vla cache DATASET`."
        )
    try:
        description = json.loads(path.read_text("utf-8"))
        episodes = tuple(episode_info(text) for text in description["episodes"])
        fingerprints = [str(value) for value in description["fingerprints"]]
        datasets = [folder / relative for relative in description["datasets"]]
        sources = list(zip(datasets, fingerprints, strict=True))
        hashes = dict(description.get(_HASHES, {}))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    for dataset, fingerprint in sources:
        _refuse_stale(folder, dataset, fingerprint)
    arrays = {
        field.name: _map(folder / f"{field.name}.npy")
        for field in fields(Cache)
        if field.name not in ("episodes", "fingerprint")
    }
    expected = _shapes(len(arrays["episode"]), len(arrays["chunks"]))
    for name, (shape, dtype) in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != dtype:
            raise damaged(folder / f"{name}.npy", ValueError(f"its shape is not {shape}"))
    if hashes:
        _refuse_changed(folder, hashes)
    _refuse_disorder(folder, arrays, episodes)
    return Cache(**arrays, episodes=episodes, fingerprint="+".join(fingerprints))


def _refuse_changed(folder: Path, hashes: dict[str, Any]) -> None:
    for name in _hashed():
        path = folder / f"{name}.npy"
        try:
            if hashes.get(name) != sha256_of(path):
                raise ValueError("it is not what was written")
        except (OSError, ValueError) as error:
            raise damaged(path, error) from error


def _refuse_disorder(
    folder: Path, arrays: dict[str, NDArray[Any]], episodes: Sequence[EpisodeInfo]
) -> None:
    """What can be seen without hashes: frames and labels would be taken for those of others."""
    numbers, offsets = arrays["episode"], arrays["offsets"]
    if len(numbers) and int(numbers[-1]) != len(episodes) - 1:
        reason = "it counts other episodes than the frames"
        raise damaged(folder / _DESCRIPTION, ValueError(reason))
    if len(numbers) and (numbers[0] != 0 or (np.diff(numbers) < 0).any()):
        reason = "its frames are not in the order of the episodes"
        raise damaged(folder / "episode.npy", ValueError(reason))
    goals = np.array([len(info.goals) for info in episodes], np.int64)
    expected = np.concatenate([[0], np.cumsum(goals[numbers])])
    if not np.array_equal(offsets, expected) or offsets[-1] != len(arrays["chunks"]):
        reason = "it does not give every frame a label for each goal"
        raise damaged(folder / "offsets.npy", ValueError(reason))


def _hashed() -> list[str]:
    """The arrays whose hashes are compared whenever a cache is opened: all but the pictures."""
    return [name for name in _shapes(0, 0) if name != "images"]


def _refuse_stale(folder: Path, dataset: Path, fingerprint: str) -> None:
    path = dataset / OURS
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text("utf-8"))["fingerprint"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    if found != fingerprint:
        raise UserError(
            f"{folder} was made from an earlier state of {dataset}.",
            "Make it again with `vlm4vla cache`.",
        )


def _map(path: Path) -> NDArray[Any]:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    # A plain array over the same memory: indexing a memmap object costs several microseconds more.
    return np.asarray(mapped)
