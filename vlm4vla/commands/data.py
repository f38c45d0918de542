"""`vlm4vla data`: datasets without their pictures, and datasets made of that again."""

import argparse
import json
import sys
from pathlib import Path

from vlm4vla.commands.collect import show
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.restore import restore
from vlm4vla.data.rigs import expert_rig
from vlm4vla.data.store import store
from vlm4vla.episodes.table import EpisodeTable
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
    stored = actions.add_parser(
        "store", help="write collected datasets into a parquet file, without pictures"
    )
    stored.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    stored.add_argument("--out", type=Path, required=True, help="the file")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Stores datasets, or restores one or what is missing of it."""
    return _store(args) if args.action == "store" else _restore(args)


def _store(args: argparse.Namespace) -> int:
    count = store(
        args.datasets, EpisodeTable(), args.out, lambda line: print(line, file=sys.stderr)
    )
    found = {"episodes": count, "file": str(args.out), "bytes": args.out.stat().st_size}
    print(json.dumps(found) if args.json else f"{count} episodes in {args.out}")
    return 0


def _restore(args: argparse.Namespace) -> int:
    if args.workers < 1:
        raise UserError("Somebody has to render.", "Ask for at least one worker.")
    try:
        same = restore(args.episodes, args.out, args.workers, expert_rig, show)
    except KeyboardInterrupt:
        print("\nStopped; the same command continues.", file=sys.stderr)
        return 130
    dataset = open_dataset(args.out)
    found = {
        "episodes": len(dataset.episodes),
        "frames": len(dataset),
        "folder": str(args.out),
        "same": same,
    }
    line = f"{args.out}: {found['episodes']} episodes, {found['frames']} frames"
    if same is not None:
        line += f"; {same} of them bit for bit as recorded"
    print(json.dumps(found) if args.json else line)
    return 0
