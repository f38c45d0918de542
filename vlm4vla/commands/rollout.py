"""`vlm4vla rollout`: one episode, with a video and everything that happened in it."""

import argparse
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np

from vlm4vla.driver import CHUNK, Driver, ExpertDriver, rollout
from vlm4vla.errors import UserError
from vlm4vla.eval.instruction import read
from vlm4vla.files import replacing, write_json
from vlm4vla.suites.maniskill.stock import stock_goal, stock_scene
from vlm4vla.suites.tabletop.instructions import Goal
from vlm4vla.suites.tabletop.scene import TASKS, Scene, sample_episode
from vlm4vla.workers.simulator import TABLETOP, SimulatorProcess

FRAMES_PER_SECOND = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--checkpoint", type=Path, help="let this policy act")
    who.add_argument("--expert", action="store_true", help="let the scripted expert act")
    parser.add_argument("--task", choices=TASKS, default="pick", help="which kind of scene")
    parser.add_argument("--env", metavar="ID", help="a stock ManiSkill environment instead")
    parser.add_argument("--seed", type=int, default=0, help="which scene")
    parser.add_argument("--instruction", help="a sentence (default: one that fits the scene)")
    parser.add_argument("--most-steps", type=int, default=0, help="end the episode after these")
    parser.add_argument(
        "--execute", type=int, default=0, help="actions carried out before the next look"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")


def run(args: argparse.Namespace) -> int:
    """Runs the episode and writes `rollout.mp4` (H.264) and `episode.json`."""
    scene, goal, instruction = _asked(args)
    driver, checkpoint = _driver(args)
    driver.begin(scene, instruction)
    simulator = SimulatorProcess(args.env or TABLETOP)
    try:
        steps = []
        for step in rollout(
            simulator, driver, scene, goal, instruction, view=True, most_steps=args.most_steps
        ):
            steps.append(step)
            print(f"\rstep {step.observation.step}", end="", file=sys.stderr, flush=True)
    finally:
        simulator.close()
    print(file=sys.stderr)
    last = steps[-1].observation
    views = np.stack([s.observation.view for s in steps if s.observation.view is not None])
    with replacing(args.out / "rollout.mp4") as film:
        imageio.imwrite(film, views, plugin="pyav", codec="libx264", fps=FRAMES_PER_SECOND)
    write_json(
        args.out / "episode.json",
        {
            "environment": args.env or TABLETOP,
            "task": goal.task,
            "seed": args.seed,
            "instruction": instruction,
            "goal": str(goal),
            "driver": driver.label,
            "checkpoint": checkpoint,
            "success": last.success,
            "steps": last.step,
            "events": [
                [s.observation.step, event] for s in steps for event in s.observation.events
            ],
            "actions": [s.action.tolist() for s in steps if s.action is not None],
        },
    )
    print(f"{instruction}: {'success' if last.success else 'failure'} after {last.step} steps")
    return 0


def _asked(args: argparse.Namespace) -> tuple[Scene, Goal, str]:
    if min(args.seed, args.most_steps, args.execute) < 0:
        raise UserError("Seeds, steps and executed actions start at 0.")
    if args.env:
        goal, instruction = stock_goal(args.env, args.instruction)
        return stock_scene(args.seed), goal, instruction
    episode = sample_episode(args.task, args.seed, held_out=True)
    if args.instruction is None:
        return episode.scene, episode.goal, episode.instruction
    reading = read(args.instruction, episode.scene)
    # Judged as the app judges it: an unknown sentence by the known one that is most like it.
    judged_by = reading.goal or read(reading.nearest, episode.scene).goal
    assert judged_by is not None
    return episode.scene, judged_by, reading.sentence


def _driver(args: argparse.Namespace) -> tuple[Driver, str | None]:
    if args.expert:
        return ExpertDriver(args.execute or CHUNK), None
    from vlm4vla.eval.policy_driver import load_driver  # takes seconds: torch
    from vlm4vla.model.checkpoint import checkpoint_hash

    driver = load_driver(args.checkpoint)
    driver.execute = args.execute or driver.execute
    return driver, checkpoint_hash(args.checkpoint)
