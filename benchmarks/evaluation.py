"""Episodes a minute of `vlm4vla eval`'s machinery, as multiples of a plain loop.

    python benchmarks/evaluation.py [--rounds 5] [--episodes 40] [--plain-episodes 6]

The plain loop is one process with stock PickCube, a picture at every step, and torch as it comes.
The others are `evaluate` with two workers on "pick": policies in processes of their own (what
`vlm4vla eval` does on a CPU), and for comparison in threads of one process. All use the same tiny
policy with random weights, which never succeeds, so that every episode has the same number of
steps, and ask it at every fourth. Each loop runs in a process of its own, alternating; the medians
are over the rounds. Starting and a worker's first episode do not count.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vlm4vla import seeds
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Episode
from vlm4vla.eval.evaluate import evaluate
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.tasks import TIME_LIMIT
from vlm4vla.system.vulkan import ensure_driver

STEPS = TIME_LIMIT["pick"]
EXECUTE = 4
WORKERS = 2
SENTENCE = "pick up the red cube"


def save_policy(folder: Path) -> None:
    """A policy of the shipped size with random weights."""
    from vlm4vla.model.policy import Policy
    from vlm4vla.train.objectives.language import make_backbone

    Policy.from_vlm(make_backbone(), query_init="embedding").save_pretrained(folder)


def plain(checkpoint: Path, episodes: int) -> float:
    """Episodes a minute of the plain loop."""
    import gymnasium
    import mani_skill.envs  # noqa: F401  (registers the environments)

    from vlm4vla.model.policy import Policy

    policy = Policy.from_pretrained(checkpoint)
    environment = gymnasium.make(
        "PickCube-v1",
        obs_mode="rgb",
        control_mode="pd_ee_delta_pose",
        sim_backend="physx_cpu",
        render_backend="sapien_cpu",
        sensor_configs={"width": 128, "height": 128},
        max_episode_steps=2 * STEPS,
    )

    def episode(seed: int) -> None:
        seen, _ = environment.reset(seed=seed)
        for _ in range(STEPS // EXECUTE):
            image = seen["sensor_data"]["base_camera"]["rgb"]
            for action in policy.act(image, [SENTENCE])[0, :EXECUTE]:
                seen, *_ = environment.step(action)

    episode(0)
    began = time.perf_counter()
    for seed in range(1, episodes + 1):
        episode(seed)
    return 60 * episodes / (time.perf_counter() - began)


def tried(make: Callable[[], Agent], episodes: int) -> float:
    """Episodes a minute of `evaluate`, from the moment on when every worker has done one."""
    ended: list[tuple[int, float]] = []

    def report(episode: Episode) -> None:
        assert episode.steps == STEPS, f"an episode ended after {episode.steps} steps"
        ended.append((threading.get_ident(), time.perf_counter()))

    first = seeds.SELECT.start
    specs = [TABLETOP.spec("pick", seed, Condition()) for seed in range(first, first + episodes)]
    evaluate(TABLETOP, specs, make, WORKERS, report)
    threads = [thread for thread, _ in ended]
    begun = max(threads.index(thread) for thread in set(threads))
    assert len(set(threads)) == WORKERS, "one worker did everything: run more episodes"
    return 60 * (episodes - 1 - begun) / (ended[-1][1] - ended[begun][1])


def processes(checkpoint: Path, episodes: int) -> float:
    """Episodes a minute with what `vlm4vla eval` uses on this machine."""
    from vlm4vla.agents.workers import policy_workers

    with policy_workers(checkpoint) as make:
        return tried(make, episodes)


def threads(checkpoint: Path, episodes: int) -> float:
    """Episodes a minute with both policies in threads of this process."""
    from vlm4vla.agents.policy import single_threaded_agent

    return tried(lambda: single_threaded_agent(checkpoint), episodes)


LOOPS: dict[str, Callable[[Path, int], float]] = {
    "plain loop": plain,
    "two workers, policies in processes": processes,
    "two workers, policies in threads": threads,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=40, help="of each loop with workers")
    parser.add_argument("--plain-episodes", type=int, default=6, help="of the plain loop")
    parser.add_argument("--only", choices=LOOPS, help="measure one loop in this process")
    parser.add_argument("--checkpoint", type=Path, help="the policy for --only")
    args = parser.parse_args()
    if args.only:
        ensure_driver()
        print(LOOPS[args.only](args.checkpoint, args.episodes))
        return
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "untrained")
        save_policy(checkpoint)
        for _ in range(args.rounds):
            for name in LOOPS:
                episodes = args.plain_episodes if name == "plain loop" else args.episodes
                command = [sys.executable, __file__, "--only", name, "--episodes", str(episodes)]
                command += ["--checkpoint", str(checkpoint)]
                output = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True
                ).stdout
                found[name].append(float(output.split()[-1]))
    print(f"{STEPS} steps an episode, a look at every {EXECUTE}th")
    for name, rates in found.items():
        ratios = np.array(rates) / np.array(found["plain loop"])
        print(
            f"{name}: {np.median(rates):.1f} episodes a minute, {np.median(ratios):.2f} times "
            f"plain (rounds {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
        )


if __name__ == "__main__":
    main()
