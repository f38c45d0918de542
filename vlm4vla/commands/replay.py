"""`vlm4vla replay`: the gate. Stored labels, replayed open loop, must solve the tasks."""

import argparse
import json
import sys
from pathlib import Path

from vlm4vla.action import tiny
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.replay import PASS_RATE, gate
from vlm4vla.data.rigs import expert_rig
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.scene import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK", choices=TASKS)
    parser.add_argument("--episodes", type=int, default=100, help="episodes of each task")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Replays, tells the rates, and returns 1 if a task is below the gate."""
    if args.episodes < 1:
        raise UserError("Nothing to replay.", "Ask for at least one episode.")
    dataset = open_dataset(args.data)
    rig = expert_rig()
    try:
        found = gate(
            dataset,
            args.tasks,
            args.episodes,
            rig.environment,
            rig.plan,
            tiny(),
            lambda line: print(line, file=sys.stderr if args.json else sys.stdout, flush=True),
        )
    finally:
        rig.environment.close()
    if args.json:
        print(json.dumps(found))
    return 0 if all(row["rate"] >= PASS_RATE for row in found["tasks"].values()) else 1
