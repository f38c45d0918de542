"""How much of the named object the policy camera sees on the way to it.

    python benchmarks/visibility.py [--episodes 40]

An episode counts as visible if, at every step until the finger tips are within 4 cm of the named
object for the first time, at least half of its pixels are seen. The whole is what the camera sees
of it when the arm is out of the way.
"""

import argparse

import numpy as np

from vlm4vla import seeds
from vlm4vla.core.condition import Condition, Perturbation
from vlm4vla.core.environment import Environment
from vlm4vla.statistics import wilson
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.changes import START
from vlm4vla.suites.tabletop.suite import POLICY_CAMERA, goal_of

CAMERAS = (POLICY_CAMERA,)
AWAY = Condition(perturbations=(Perturbation(START, {"x": -0.30, "y": 0.0, "z": 0.30}),))
"""The arm starts out of the way."""


def least_share(environment: Environment, task: str, seed: int) -> float:
    """Smallest visible share of the named object before the hand is near it."""
    environment.reset(TABLETOP.spec(task, seed, AWAY), CAMERAS)
    spec = TABLETOP.spec(task, seed, Condition())
    goal = goal_of(spec)
    index = environment.privileged().names.index(goal.object)
    whole = int(np.sum(environment.segmentation() == index))
    done = environment.reset(spec, CAMERAS).done
    shares = []
    while not done:
        state = environment.privileged()
        if np.linalg.norm(state.tcp - state.position(goal.object)) < 0.04:
            break
        shares.append(float(np.sum(environment.segmentation() == index)) / whole)
        done = environment.step(expert.act(state, goal), CAMERAS).done
    return min(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=40, help="episodes of each task")
    args = parser.parse_args()
    environment = TABLETOP.open()
    good = total = 0
    for task in TABLETOP.tasks:
        first = seeds.SELECT.start
        shares = [least_share(environment, task, first + i) for i in range(args.episodes)]
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
