"""Robot frames without a simulator: coloured spots where the things are, and exact labels."""

import numpy as np

from vlm4vla.data.cache import Cache
from vlm4vla.data.lerobot.schema import EpisodeInfo
from vlm4vla.suites.tabletop.expert import ACTION_CAP
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, sample_scene
from vlm4vla.suites.tabletop.vocabulary import COLOURS, colour_of

PER_METRE = 319.0


def pixel(position):
    """Where a camera straight above sees a place: (column, row)."""
    return 64 + PER_METRE * position[1], 64 + PER_METRE * (position[0] + 0.10)


def make_cache(episodes=12, frames=4, task="pick", first_seed=1_000_000):
    """A cache of E episodes whose expert flies straight at the object and closes near it."""
    infos, images, episode, step, state, positions, chunks, offsets = (
        [],
        [],
        [],
        [],
        [],
        [],
        [],
        [0],
    )
    for number in range(episodes):
        seed = first_seed + number
        scene = sample_scene(LAYOUT_OF_TASK[task], seed)
        goals = scene.goals()
        goal = scene.goals(task)[0]
        things = tuple(item.name for item in (*scene.objects, *scene.fixtures))
        centres = np.zeros((5, 3), np.float32)
        for i, item in enumerate((*scene.objects, *scene.fixtures)):
            centres[i] = item.x, item.y, 0.02
        infos.append(
            EpisodeInfo(
                task=task,
                layout=scene.layout,
                seed=seed,
                goal=goal,
                instruction=str(goal),
                driver="expert",
                noise=0.0,
                start=None,
                things=things,
                movable=len(scene.objects),
                goals=tuple(map(str, goals)),
                versions={},
            )
        )
        rng = np.random.default_rng(number)
        for frame in range(frames):
            tcp = np.float32([rng.uniform(-0.2, 0.1), rng.uniform(-0.15, 0.15), 0.1])
            image = np.full((128, 128, 3), 120, np.uint8)
            for name, centre in zip(things, centres[: len(things)], strict=True):
                column, row = map(round, pixel(centre))
                box = image[max(row - 7, 0) : row + 7, max(column - 7, 0) : column + 7]
                box[:] = np.array(COLOURS[colour_of(name)]) * 255
            column, row = map(round, pixel(tcp))
            image[max(row - 3, 0) : row + 3, max(column - 3, 0) : column + 3] = 255
            images.append(image)
            episode.append(number)
            step.append(frame)
            state.append([*tcp, 0.08])
            positions.append(centres)
            for valid in goals:
                towards = centres[things.index(valid.object)] - tcp
                chunk = np.zeros((4, 7), np.float32)
                chunk[:, :3] = np.clip(towards / 0.1, -ACTION_CAP, ACTION_CAP)
                chunk[:, 6] = 1.0 if np.linalg.norm(towards[:2]) > 0.03 else -1.0
                chunks.append(chunk)
            offsets.append(len(chunks))
    count = len(images)
    return Cache(
        images=np.stack(images),
        episode=np.array(episode, np.int32),
        step=np.array(step, np.int32),
        state=np.array(state, np.float32),
        action=np.zeros((count, 7), np.float32),
        noisy=np.zeros(count, bool),
        positions=np.stack(positions),
        pixels=np.full((count, 5), 150, np.int32),
        chunks=np.stack(chunks),
        offsets=np.array(offsets, np.int64),
        success=np.zeros(count, bool),
        episodes=tuple(infos),
        fingerprint="synthetic",
    )
