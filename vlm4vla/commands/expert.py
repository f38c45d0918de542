"""`vlm4vla expert`: how often the scripted expert succeeds."""

import argparse
import json
import sys
from typing import Any

from vlm4vla.driver import CHUNK, ExpertDriver
from vlm4vla.errors import UserError
from vlm4vla.eval.trial import Trial, describe, summarise, try_seeds
from vlm4vla.suites.tabletop.scene import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--tasks",
        "--task",
        nargs="+",
        default=list(TASKS),
        choices=TASKS,
        metavar="TASK",
        help=f"which tasks, of {', '.join(TASKS)} (default: all)",
    )
    parser.add_argument("--episodes", type=int, default=200, help="episodes of each task")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first episode")
    parser.add_argument(
        "--execute",
        type=int,
        default=1,
        help=f"planned actions carried out before the next look (1; a policy's chunk is {CHUNK})",
    )
    parser.add_argument("--workers", type=int, default=2, help="simulators at a time")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Runs the episodes and tells the rates."""
    if min(args.episodes, args.workers, args.execute) < 1 or args.first_seed < 0:
        raise UserError("Episodes, workers and executed actions start at 1, seeds at 0.")
    seeds = range(args.first_seed, args.first_seed + args.episodes)
    found: dict[str, Any] = {}
    for task in args.tasks:
        done: list[Trial] = []

        def report(trial: Trial, task: str = task, done: list[Trial] = done) -> None:
            done.append(trial)
            wins = sum(one.success for one in done)
            print(f"\r{task}: {wins} of {len(done)}", end="", file=sys.stderr, flush=True)

        trials = try_seeds(
            lambda: ExpertDriver(execute=args.execute), task, seeds, args.workers, report
        )
        print(file=sys.stderr)
        found[task] = summarise(trials)
        failed = [trial.seed for trial in trials if not trial.success]
        if not args.json:
            print(describe(task, found[task]) + (f", failed seeds {failed}" if failed else ""))
    if args.json:
        print(json.dumps({"first_seed": args.first_seed, "tasks": found}))
    return 0
