"""Measures how the arm answers an action and writes the model that the expert plans with.

    python benchmarks/controller.py [--write]

Without --write the stored model is only checked against fresh episodes. Training seeds are used
for the fit and selection seeds for the check.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm4vla import seeds
from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.core.observation import Array
from vlm4vla.files import write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import controller, expert
from vlm4vla.suites.tabletop.suite import goal_of

EPISODES_PER_TASK = 24
NOISE = 0.25


def episodes(environment: Environment, first_seed: int) -> Iterator[NDArray[np.float64]]:
    """Tip, velocity and action before, tip and velocity after each step, an array an episode."""
    rng = np.random.default_rng(first_seed)
    for task in TABLETOP.tasks:
        for seed in range(first_seed, first_seed + EPISODES_PER_TASK):
            spec = TABLETOP.spec(task, seed, Condition())
            transition = environment.reset(spec)
            before = environment.privileged()
            rows: list[list[Array]] = []
            while not transition.done and len(rows) < 45:
                action = expert.act(before, goal_of(spec))
                if seed % 2 and rng.random() < 0.4:
                    action[:3] = np.clip(action[:3] + rng.normal(0, NOISE, 3), -1, 1)
                transition = environment.step(action)
                after = environment.privileged()
                rows.append([before.tcp, before.velocity, action[:3], after.tcp, after.velocity])
                before = after
            yield np.array(rows, dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the new model")
    args = parser.parse_args()
    environment = TABLETOP.open()
    if args.write:
        rows = np.concatenate(list(episodes(environment, seeds.TRAIN.start)))
        tip, velocity, action, tip_after, velocity_after = rows.transpose(1, 0, 2)
        features = np.array(
            [controller.features(*row) for row in zip(tip, velocity, action, strict=True)]
        )
        moved = np.linalg.lstsq(features, tip_after - tip, rcond=None)[0].T
        speed = np.linalg.lstsq(features, velocity_after, rcond=None)[0].T
        write_json(
            Path(controller.__file__).with_suffix(".json"),
            {
                "command": "python benchmarks/controller.py --write",
                "steps": len(rows),
                "moved": moved.round(6).tolist(),
                "velocity": speed.round(6).tolist(),
            },
        )
        print(f"stored a model of {len(rows)} steps; run again without --write to check it")
        return
    one: list[float] = []
    four: list[float] = []
    for rows in episodes(environment, seeds.SELECT.start):
        for start in range(len(rows)):
            tip, velocity = rows[start, 0], rows[start, 1]
            for ahead in range(min(4, len(rows) - start)):
                tip, velocity = controller.respond(tip, velocity, rows[start + ahead, 2])
                if ahead == 0:
                    one.append(float(np.linalg.norm(tip - rows[start, 3])))
                if ahead == 3:
                    four.append(float(np.linalg.norm(tip - rows[start + 3, 3])))
    for name, off in (("one step", one), ("four steps", four)):
        median, tail = np.quantile(off, [0.5, 0.9]) * 1e3
        print(f"{name}: median {median:.2f} mm, 90 % below {tail:.2f} mm, n = {len(off)}")


if __name__ == "__main__":
    main()
