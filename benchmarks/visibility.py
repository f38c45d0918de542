"""How much of the named object the policy camera sees on the way to it.

    python benchmarks/visibility.py [--episodes 40]

An episode counts as visible if, at every step until the finger tips are within 4 cm of the named
object for the first time, at least half of its pixels are seen. The whole is what the camera sees
of it when the arm is out of the way.
"""

import argparse

import numpy as np

from vlm4vla import seeds
from vlm4vla.statistics import wilson
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.suites.tabletop.instructions import Task
from vlm4vla.suites.tabletop.scene import TASKS, sample_episode
from vlm4vla.suites.tabletop.types import Pictures
from vlm4vla.system.vulkan import ensure_driver

SEGMENTS = Pictures(image=False, segmentation=True)
OUT_OF_THE_WAY = (-0.30, 0.0, 0.30)


def least_share(simulator: Tabletop, task: Task, seed: int) -> float:
    """Smallest visible share of the named object before the hand is near it."""
    episode = sample_episode(task, seed)
    index = [item.name for item in episode.scene.objects].index(episode.goal.object)
    clear = simulator.reset(episode.scene, episode.goal, SEGMENTS, OUT_OF_THE_WAY)
    whole = int(np.sum(clear.segmentation == index))
    seen = simulator.reset(episode.scene, episode.goal, SEGMENTS)
    shares = []
    while not seen.done:
        apart = np.linalg.norm(seen.state.tcp - seen.state.position(episode.goal.object))
        if apart < 0.04:
            break
        shares.append(float(np.sum(seen.segmentation == index)) / whole)
        seen = simulator.step(expert.act(seen.state, episode.goal), SEGMENTS)
    return min(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=40, help="episodes of each task")
    args = parser.parse_args()
    ensure_driver()
    simulator = Tabletop()
    good = total = 0
    for task in TASKS:
        first = seeds.SELECT.start
        shares = [least_share(simulator, task, first + i) for i in range(args.episodes)]
        visible = sum(share >= 0.5 for share in shares)
        print(f"{task}: {visible}/{len(shares)} visible, least share seen {min(shares):.2f}")
        good, total = good + visible, total + len(shares)
    rate = wilson(good, total)
    print(
        f"all: {good}/{total} = {rate.rate:.1%}, 95 % interval {rate.low:.1%} to {rate.high:.1%}, "
        f"seeds {first} to {first + args.episodes - 1}"
    )


if __name__ == "__main__":
    main()
