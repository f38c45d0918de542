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
from vlm4vla.eval.trial import Case, Condition, Trial, summarise, table, try_cases
from vlm4vla.paths import home
from vlm4vla.suites.tabletop.scene import TASKS


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
    parser.add_argument(
        "--record", action="store_true", help="put the figures into the checkpoint's card"
    )
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
    # They take seconds: torch.
    from vlm4vla.eval.drivers import policy_drivers
    from vlm4vla.model.checkpoint import checkpoint_hash

    condition = Condition(not args.trained_sentences, args.goal == "alternate")
    plan = Plan(checkpoint_hash(args.checkpoint), args.first_seed, args.episodes, condition)
    rows = Rows(args.out or home() / "evaluations" / _name(plan), plan)
    store = Store()
    done = rows.read()
    # What an earlier, killed run wrote down last may not have reached the store.
    file_trials(store, plan.checkpoint, done)

    def keep(trial: Trial) -> None:
        rows.append(trial)
        store.put(record_of(trial, plan.checkpoint), None, evaluated=True)
        done.append(trial)
        same = [one.success for one in done if one.task == trial.task]
        print(f"\r{trial.task}: {sum(same)} of {len(same)}", end="", file=sys.stderr, flush=True)

    missing = [Case(task, seed) for task in args.tasks for seed in rows.missing(task, done)]
    if missing:
        with policy_drivers(args.checkpoint) as make_driver:
            try_cases(make_driver, missing, args.workers, keep, condition)
        print(file=sys.stderr)
    found = {task: summarise([one for one in done if one.task == task]) for task in args.tasks}
    answer = {"checkpoint": plan.checkpoint, "first_seed": plan.first_seed, "tasks": found}
    if args.record:
        _record(args.checkpoint, answer, condition)
    if args.json:
        print(json.dumps({**answer, "episodes": str(rows.file)}))
    else:
        for line in table(found):
            print(line)
    return 0


def _record(checkpoint: Path, answer: dict[str, Any], condition: Condition) -> None:
    """Keeps the figures of first and alternate goals side by side."""
    from vlm4vla.model.checkpoint import record_evaluation, verify

    kept = dict(verify(checkpoint)["evaluation"])
    figures = {**answer, "sentences": "held out" if condition.held_out else "of training"}
    if condition.alternate:
        record_evaluation(checkpoint, {**kept, "alternate": figures})
    else:
        alternate = {"alternate": kept["alternate"]} if "alternate" in kept else {}
        record_evaluation(checkpoint, figures | alternate)


def _name(plan: Plan) -> str:
    goal = "-alternate" if plan.condition.alternate else ""
    words = "" if plan.condition.held_out else "-trained-sentences"
    return f"{plan.checkpoint[:12]}-{plan.first_seed}-{plan.episodes}{goal}{words}"
