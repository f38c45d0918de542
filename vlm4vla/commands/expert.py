"""`vlm4vla expert`: how often the scripted expert succeeds, an evaluation of the expert agent."""

import argparse
import json

from vlm4vla import seeds
from vlm4vla.agents.expert import CHUNK, EXPERT, ExpertAgent
from vlm4vla.commands.eval import run_missing
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.metrics import describe, summarise
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import TRAINED


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
    """Runs the episodes that have no row yet and tells the rates."""
    if min(args.episodes, args.workers, args.execute) < 1 or args.first_seed < 0:
        raise UserError("Episodes, workers and executed actions start at 1, seeds at 0.")
    if args.execute > CHUNK:
        raise UserError(f"The expert plans {CHUNK} actions at once.", f"Execute at most {CHUNK}.")
    tasks = list(dict.fromkeys(args.tasks))
    condition = Condition(
        TRAINED, replan_every=args.execute if args.execute != ExpertAgent.replan_every else 0
    )
    seeds.evaluated(args.first_seed, args.episodes)
    numbers = range(args.first_seed, args.first_seed + args.episodes)
    specs = [TABLETOP.spec(task, seed, condition) for task in tasks for seed in numbers]
    done = run_missing(EpisodeTable(), specs, EXPERT, lambda: ExpertAgent(), args.workers)
    found = {task: summarise([one for one in done if one.spec.task == task]) for task in tasks}
    for task, row in found.items():
        failed = [
            one.spec.seed for one in done if one.spec.task == task and not one.outcome.success
        ]
        if not args.json:
            print(describe(task, row) + (f", failed seeds {failed}" if failed else ""))
    if args.json:
        print(json.dumps({"first_seed": args.first_seed, "tasks": found}))
    return 0
