"""Frames and steps a second of the suite, as multiples of the stock ManiSkill loop.

    python benchmarks/simulation.py [--pairs 5] [--steps 200]

Environment only, at 128 x 128 pixels, one process each, alternating: stock PickCube with a picture
at every step, the suite with a picture at every step, the suite with a picture at every fourth
step (what a policy that carries out four actions an inference needs). The medians are over the
pairs.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Transition
from vlm4vla.core.observation import Array
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.system.vulkan import ensure_driver

WARM_UP = 10

Step = Callable[[int], Any]


def action(step: int) -> Array:
    """A small circle with open fingers: the arm moves, nothing is touched."""
    angle = step / 8
    return np.array([0.1 * np.cos(angle), 0.1 * np.sin(angle), 0, 0, 0, 0, 1], np.float32)


def stock() -> Step:
    import gymnasium
    import mani_skill.envs  # noqa: F401  (registers the environments)

    environment = gymnasium.make(
        "PickCube-v1",
        obs_mode="rgb",
        control_mode="pd_ee_delta_pose",
        sim_backend="physx_cpu",
        render_backend="sapien_cpu",
        sensor_configs={"width": 128, "height": 128},
    )
    environment.reset(seed=0)
    return lambda step: environment.step(action(step))


def suite(every: int) -> Step:
    environment = TABLETOP.open()
    environment.reset(TABLETOP.spec("pick", 0, Condition()), TABLETOP.cameras[:1])

    def step(index: int) -> Transition:
        due = index % every == every - 1
        return environment.step(action(index), TABLETOP.cameras[:1] if due else ())

    return step


LOOPS: dict[str, Callable[[], Step]] = {
    "stock": stock,
    "every step": lambda: suite(1),
    "every fourth step": lambda: suite(4),
}


def measure(name: str, steps: int) -> float:
    """Steps a second of one loop, in this process."""
    ensure_driver()
    step = LOOPS[name]()
    for index in range(WARM_UP):
        step(index)
    began = time.perf_counter()
    for index in range(steps):
        step(index)
    return steps / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", choices=LOOPS, help="measure one loop in this process")
    args = parser.parse_args()
    if args.only:
        print(measure(args.only, args.steps))
        return
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(args.pairs):
        for name in LOOPS:
            command = [sys.executable, __file__, "--only", name, "--steps", str(args.steps)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name].append(float(output.split()[-1]))
    for name, rates in found.items():
        ratios = np.array(rates) / np.array(found["stock"])
        print(
            f"{name}: {np.median(rates):.1f} steps a second, {np.median(ratios):.2f} times stock "
            f"(pairs {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


if __name__ == "__main__":
    main()
