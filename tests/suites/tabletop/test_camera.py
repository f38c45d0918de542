"""The pictures of the suite's cameras."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np

from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.suites.tabletop.scene import TASKS, sample_episode
from vlm4vla.suites.tabletop.types import Pictures

ALL = Pictures(image=True, view=True, segmentation=True)


def pictures(simulator: Tabletop) -> str:
    """Hash of every kind of picture, of the first steps of an expert episode of each task."""
    digest = hashlib.sha256()
    for task in TASKS:
        episode = sample_episode(task, 27)
        seen = simulator.reset(episode.scene, episode.goal, ALL)
        for _ in range(6):
            for part in (seen.image, seen.view, seen.segmentation):
                digest.update(np.ascontiguousarray(part).tobytes())
            seen = simulator.step(expert.act(seen.state, episode.goal), ALL)
    return digest.hexdigest()


WITH_STOCK_SHADERS = """
import sys
sys.path.insert(0, {folder!r})
from vlm4vla.system import shaders
shaders.without_reflection = lambda: shaders.STOCK
from test_camera import pictures
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.system.vulkan import ensure_driver
ensure_driver()
print(pictures(Tabletop()))
"""


def test_shaders_without_reflection_draw_the_same_pictures(tabletop: Tabletop):
    folder = str(Path(__file__).parent)
    stock = subprocess.run(
        [sys.executable, "-c", WITH_STOCK_SHADERS.format(folder=folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert stock.stdout.strip() == pictures(tabletop)
