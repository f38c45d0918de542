"""`vlm4vla eval`: success rates of a checkpoint in closed loop."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vlm4vla import seeds
from vlm4vla.errors import UserError
from vlm4vla.eval.filing import file_trials, record_of
from vlm4vla.eval.rows import Plan, Rows
from vlm4vla.eval.store import Store
from vlm4vla.eval.trial import Condition, Trial, describe, summarise, try_seeds
from vlm4vla.paths import home
from vlm4vla.sim.scene import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each task")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=seeds.TEST.start,
        help="scenes from here on; 0 to 99999 are for reporting, 100000 to 199999 for choosing",
    )
    parser.add_argument(
        "--goal",
        choices=("first", "alternate"),
        default="first",
        help="alternate: ask for a second goal of the same scene and watch the first",
    )
    parser.add_argument(
        "--trained-sentences",
        action="store_true",
        help="use the sentences of training instead of the held-out paraphrases",
    )
    parser.add_argument("--workers", type=int, default=2, help="simulators at a time")
    parser.add_argument("--out", type=Path, help="folder for the rows; resumes what it holds")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Runs the episodes that have no row yet and tells the rates."""
    last = args.first_seed + args.episodes - 1
    if min(args.episodes, args.workers) < 1 or args.first_seed < 0:
        raise UserError("Episodes and workers start at 1, seeds at 0.")
    if {seeds.split_of(args.first_seed), seeds.split_of(last)} & {"train", "none"}:
        raise UserError(
            f"Seeds {args.first_seed} to {last} are not for evaluation.",
            "Use 0 to 99999 to report, 100000 to 199999 to choose between checkpoints.",
        )
    from vlm4vla.model.checkpoint import checkpoint_hash  # takes seconds: torch

    condition = Condition(not args.trained_sentences, args.goal == "alternate")
    plan = Plan(checkpoint_hash(args.checkpoint), args.first_seed, args.episodes, condition)
    rows = Rows(args.out or home() / "evaluations" / _name(plan), plan)
    store = Store()
    # What an earlier, killed run wrote down last may not have reached the store.
    file_trials(store, plan.checkpoint, rows.read())
    found = {task: _evaluate(args, task, rows, plan, store) for task in args.tasks}
    if args.json:
        answer = {
            "checkpoint": plan.checkpoint,
            "first_seed": plan.first_seed,
            "tasks": found,
            "episodes": str(rows.file),
        }
        print(json.dumps(answer))
    return 0


def _evaluate(
    args: argparse.Namespace, task: Any, rows: Rows, plan: Plan, store: Store
) -> dict[str, Any]:
    done = [trial for trial in rows.read() if trial.task == task]

    def keep(trial: Trial) -> None:
        rows.append(trial)
        store.put(record_of(trial, plan.checkpoint), None, evaluated=True)
        done.append(trial)
        wins = sum(one.success for one in done)
        print(f"\r{task}: {wins} of {len(done)}", end="", file=sys.stderr, flush=True)

    if missing := rows.missing(task, done):
        try_seeds(
            lambda: _driver(args.checkpoint), task, missing, args.workers, keep, plan.condition
        )
        print(file=sys.stderr)
    figures = summarise(done)
    if not args.json:
        print(describe(task, figures))
    return figures


def _driver(checkpoint: Path) -> Any:
    import torch

    from vlm4vla.eval.policy_driver import load_driver

    if not torch.cuda.is_available():
        # Each worker has a core of its own; threads that wait for each other only slow it down.
        torch.set_num_threads(1)
    return load_driver(checkpoint)


def _name(plan: Plan) -> str:
    goal = "-alternate" if plan.condition.alternate else ""
    words = "" if plan.condition.held_out else "-trained-sentences"
    return f"{plan.checkpoint[:12]}-{plan.first_seed}-{plan.episodes}{goal}{words}"
