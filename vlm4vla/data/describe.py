"""The data page: what a dataset holds, in numbers and pictures that a person can check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlm4vla.data.lerobot.reader import Dataset, EpisodeRow
from vlm4vla.data.lerobot.schema import (
    ACTION,
    ACTION_NAMES,
    CHUNK,
    CHUNKS,
    MAX_GOALS,
    NOISY,
    PIXELS,
    EpisodeInfo,
)
from vlm4vla.errors import UserError
from vlm4vla.files import replacing

BINS: Final = 41
"""Bars of a histogram over -1 to 1; odd, so that zero is the middle of one."""

_SHEET_ROWS: Final = 2
_SHEET_COLUMNS: Final = 6


@dataclass(frozen=True)
class Counts:
    """What the rows of the page's table say about one task.

    Attributes:
        episodes: number of episodes.
        frames: number of frames.
        success: share of episodes that ended in success.
        noisy: share of frames whose action had noise.
        near: share of episodes that began near the object.
        labels: labels of all frames and goals.
    """

    episodes: int
    frames: int
    success: float
    noisy: float
    near: float
    labels: int


def counts(
    rows: Sequence[EpisodeRow], noisy: NDArray[np.bool_], success: NDArray[np.bool_]
) -> Counts:
    """Counts over some episodes.

    Args:
        rows: the episodes.
        noisy: (N,) over all frames of the dataset.
        success: (N,) likewise.
    """
    frames = sum(row.length for row in rows)
    infos = [_info(row) for row in rows]
    return Counts(
        episodes=len(rows),
        frames=frames,
        success=float(np.mean([success[row.begin + row.length - 1] for row in rows])),
        noisy=sum(int(noisy[row.begin : row.begin + row.length].sum()) for row in rows) / frames,
        near=float(np.mean([info.start is not None for info in infos])),
        labels=sum(row.length * len(info.goals) for row, info in zip(rows, infos, strict=True)),
    )


def _info(row: EpisodeRow) -> EpisodeInfo:
    if row.info is None:
        raise UserError(
            f"Episode {row.index} has no labels.", "Describe a dataset made by `vlm4vla collect`."
        )
    return row.info


def histograms(actions: NDArray[np.float32]) -> NDArray[np.int64]:
    """How often each of `BINS` ranges over [-1, 1] occurs: (N, 7) gives (7, BINS)."""
    edges = np.linspace(-1, 1, BINS + 1)
    return np.stack([np.histogram(column, edges)[0] for column in actions.T])


def draw_histograms(executed: NDArray[np.int64], labelled: NDArray[np.int64]) -> str:
    """An SVG with a panel for each action dimension: executed actions as bars, labels as a line.

    Args:
        executed: (7, BINS) counts of the executed actions.
        labelled: (7, BINS) counts of the labels.
    """
    width, height, gap = 150, 90, 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{4 * (width + gap) + gap}" '
        f'height="{2 * (height + 2 * gap)}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, name in enumerate(ACTION_NAMES):
        x, y = gap + i % 4 * (width + gap), gap + i // 4 * (height + 2 * gap)
        parts.append(f'<text x="{x}" y="{y - 6}">{name}</text>')
        parts.append(_bars(executed[i], x, y, width, height))
        parts.append(_line(labelled[i], x, y, width, height))
        for share, text in ((0.0, "-1"), (0.5, "0"), (1.0, "1")):
            parts.append(
                f'<text x="{x + share * width:.0f}" y="{y + height + 13}" text-anchor="middle" '
                f'fill="#555">{text}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _heights(found: NDArray[np.int64], height: int) -> NDArray[np.float64]:
    """Bar heights on a scale of roots, so that rare actions stay visible beside the zeros."""
    return np.sqrt(found / max(int(found.max()), 1)) * height


def _bars(found: NDArray[np.int64], x: int, y: int, width: int, height: int) -> str:
    step = width / BINS
    path = "".join(
        f"M{x + i * step:.1f} {y + height}v{-bar:.1f}h{step:.1f}v{bar:.1f}z"
        for i, bar in enumerate(_heights(found, height))
        if bar
    )
    return f'<path d="{path}" fill="#7aa6d8"/>'


def _line(found: NDArray[np.int64], x: int, y: int, width: int, height: int) -> str:
    step = width / BINS
    points = " ".join(
        f"{x + (i + 0.5) * step:.1f},{y + height - bar:.1f}"
        for i, bar in enumerate(_heights(found, height))
    )
    return f'<polyline points="{points}" fill="none" stroke="#b3431e" stroke-width="1.2"/>'


def sheet(dataset: Dataset, tasks: Sequence[str]) -> Image.Image:
    """Episodes of each task as rows of pictures from their first frame to their last."""
    rows = []
    for task in tasks:
        shown = [row for row in dataset.episodes if _info(row).task == task][:_SHEET_ROWS]
        for row in shown:
            images = dataset.images(row.index)
            chosen = np.linspace(0, len(images) - 1, _SHEET_COLUMNS).round().astype(int)
            rows.append(np.concatenate(images[chosen], axis=1))
    return Image.fromarray(np.concatenate(rows))


def write_page(dataset: Dataset, folder: Path, command: str) -> Path:
    """Writes `data.md` and its pictures.

    Args:
        dataset: made by `vlm4vla collect`.
        folder: where the page goes; its pictures go to `data/` in it.
        command: the command line that makes the page, shown on it.

    Returns:
        The page.

    Raises:
        UserError: the dataset has no labels or is damaged, or the disk is full.
    """
    tasks = list(dict.fromkeys(_info(row).task for row in dataset.episodes))
    noisy, success = dataset.column(NOISY), dataset.column("next.success")
    table: dict[str, Counts] = {
        task: counts([r for r in dataset.episodes if _info(r).task == task], noisy, success)
        for task in tasks
    }
    table["all"] = counts(dataset.episodes, noisy, success)
    executed = histograms(dataset.column(ACTION))
    with replacing(folder / "data" / "actions.svg") as path:
        path.write_text(draw_histograms(executed, histograms(_labels(dataset))), "utf-8")
    with replacing(folder / "data" / "episodes.png") as path:
        # 64 colours are enough for flat paint, and a quarter of the bytes.
        sheet(dataset, tasks).quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    page = Template(_PAGE).substitute(
        command=command,
        table="\n".join(_table_row(name, row) for name, row in table.items()),
        hidden=f"{_hidden(dataset):.1%}",
        sentences=len(dataset.tasks),
        scenes=len({(_info(row).layout, _info(row).seed) for row in dataset.episodes}),
        shown=_SHEET_ROWS,
        **_facts(dataset),
    )
    with replacing(folder / "data.md") as path:
        path.write_text(page, "utf-8")
    return folder / "data.md"


def _facts(dataset: Dataset) -> dict[str, Any]:
    settings = dataset.settings or {}
    last = _info(dataset.episodes[-1])
    return {
        "tasks": " ".join(settings["tasks"]),
        "episodes": settings["episodes"],
        "first_seed": settings["first_seed"],
        "driver": settings["driver"],
        "fingerprint": dataset.fingerprint,
        "versions": ", ".join(f"{name} {number}" for name, number in last.versions.items()),
    }


def _table_row(name: str, row: Counts) -> str:
    return (
        f"| {name} | {row.episodes} | {row.frames} | {row.frames / row.episodes:.1f} | "
        f"{row.success:.1%} | {row.noisy:.1%} | {row.near:.1%} | {row.labels} | "
        f"{row.labels / row.frames:.1f} |"
    )


def _labels(dataset: Dataset) -> NDArray[np.float32]:
    """(M, 7) the first action of every label, without the padding."""
    goals = np.concatenate([np.full(r.length, len(_info(r).goals)) for r in dataset.episodes])
    chunks = dataset.column(CHUNKS).reshape(-1, MAX_GOALS, CHUNK, 7)[:, :, 0]
    return chunks[np.arange(MAX_GOALS) < goals[:, None]]


def _hidden(dataset: Dataset) -> float:
    """Share of frames in which no pixel shows the followed goal's object."""
    which = np.concatenate(
        [
            np.full(row.length, _info(row).things.index(_info(row).goal.object))
            for row in dataset.episodes
        ]
    )
    return float(np.mean(dataset.column(PIXELS)[np.arange(len(which)), which] == 0))


_PAGE: Final = """\
# The data

Made by `$command`; do not edit by hand.

## What it holds

| task | episodes | frames | frames an episode | success | noisy frames | near starts | labels | \
labels a frame |
|---|---|---|---|---|---|---|---|---|
$table

$scenes scenes, $sentences different sentences, driver: $driver. In $hidden of the frames no pixel
shows the object that the instruction names (the hand hides it). Recorded with $versions.
Fingerprint of the content: `$fingerprint`.

![Episodes of each task, first frame to last](data/episodes.png)

$shown episodes a task, a row each, from the first frame to the last.

![How often each action occurs](data/actions.svg)

Executed actions (bars) and the first action of every label (line), simulator units, on a scale of
square roots. The executed ones are wider because of the noise; rotations are never commanded.

## What is recorded, and why

```
vlm4vla collect --tasks $tasks --episodes $episodes --first-seed $first_seed --out DIR
```

- **Every frame is labelled for every instruction that is valid in its scene**, not only for the
  one that was followed: the same picture with different sentences has different actions, so the
  sentence cannot be ignored.
- A label is what the scripted expert would do next: four actions, in the simulator's units.
- Two thirds of the episodes have noise at 45 % of their steps, on x, y and z (1 cm a step) and, at
  one noisy step in twenty-five, on the fingers. Labels are never noisy: they show the way back.
  The other third has no noise; the replay gate uses it.
- Three episodes in ten begin with the open fingers 9 to 14 cm above the table, near the object.
- `--policy CHECKPOINT` lets a trained policy act instead; the labels are made the same way.

## Columns

The layout is LeRobotDataset v3.0: any reader of that layout can open it. Pictures are PNG, because
video in 4:2:0 smears the colours that the instructions name; `previews/` has an H.264 film of
every episode for people.

| column | what it is |
|---|---|
| `observation.images.policy` | 128 x 128 RGB picture of the policy camera |
| `observation.state` | centre between the finger tips (m, world frame) and finger opening (m) |
| `tcp.velocity` | velocity of that point (m/s) |
| `action` | the executed action: x, y, z, roll, pitch, yaw, gripper (+1 open) |
| `label.chunks` | labels, 20 goals x 4 steps x 7 numbers; zeros after the last valid goal |
| `label.noisy` | whether noise was added to `action` |
| `things.positions` | centres of objects, then places, 5 x 3 (m); zeros after the last |
| `things.pixels` | how many pixels of the picture show each of them |
| `next.events` | reached, grasped, wrong_object, dropped, knocked, timeout, success |
| `next.success`, `next.done` | whether the goal holds, and the episode is over, after the action |

`meta/episodes` has, in `vlm4vla/info`, the names of things and goals in column order, the scene's
seed, the instruction, the driver, the noise, the start and the library versions. Statistics leave
`label.chunks` out: most of its components are padding in most scenes.

## Reading it

```python
from pathlib import Path
from vlm4vla.data.cache import build_cache, open_cache
from vlm4vla.data.lerobot.reader import open_dataset

episode = open_dataset(Path("DIR")).recording(0)  # pictures, labels, names of one episode
build_cache([Path("DIR")], Path("CACHE"))         # the same as `vlm4vla cache`
cache = open_cache(Path("CACHE"))
cache.images[1234], cache.labels(1234), cache.goals(cache.episode[1234])
```

## Interruptions, damage, full disks

Each episode is a file of its own until the dataset is finished, so Ctrl-C, `kill -9` and a full
disk cost the episodes in progress; the same command continues. Until then `--episodes` may change.
The result does not depend on the number of processes or on interruptions. Data pages carry
checksums, and `meta/episodes` the fingerprint of each episode's content: what is damaged, missing,
not a number, in another order or otherwise not what was recorded is refused with file, episode and
column, before anything is learned from it.

A training cache is refused as well where it does not fit its dataset, or where a number in it is
not what was written when it was made (of caches made by earlier versions, only the order of frames
and labels is known). Its pictures are gigabytes: whether all are there is checked, not what they
show. No cache is made of datasets that share an episode, as two of `collect` from the same first
seed do: it would count twice.

## The gate

```
vlm4vla replay --data DIR --episodes 100
```

Undisturbed episodes are set up again from their seeds and solved with labels alone, four blind
actions a look, after the round trip through the scaling that models are trained on. A label comes
from the dataset wherever the replay is within 5 mm of a recorded frame, and else from the expert,
asked as the collector asks it. Each task must succeed in at least 90 % of 100 episodes.
"""
