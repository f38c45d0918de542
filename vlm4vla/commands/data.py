"""`vlm4vla data`: datasets from what was stored of their episodes."""

import argparse
import json
import sys
from pathlib import Path

from vlm4vla.commands.collect import show
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.restore import restore
from vlm4vla.data.rigs import expert_rig
from vlm4vla.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    restored = actions.add_parser(
        "restore", help="render the episodes of a parquet file again into a dataset"
    )
    restored.add_argument("episodes", type=Path, metavar="EPISODES.parquet")
    restored.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    restored.add_argument("--workers", type=int, default=2, help="processes that render")
    restored.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Restores a dataset, or what is missing of it."""
    if args.workers < 1:
        raise UserError("Somebody has to render.", "Ask for at least one worker.")
    try:
        restore(args.episodes, args.out, args.workers, expert_rig, show)
    except KeyboardInterrupt:
        print("\nStopped; the same command continues.", file=sys.stderr)
        return 130
    dataset = open_dataset(args.out)
    found = {"episodes": len(dataset.episodes), "frames": len(dataset), "folder": str(args.out)}
    line = f"{args.out}: {found['episodes']} episodes, {found['frames']} frames"
    print(json.dumps(found) if args.json else line)
    return 0
