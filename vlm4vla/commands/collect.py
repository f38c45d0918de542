"""`vlm4vla collect`: record demonstrations with labels for every valid instruction."""

import argparse
import sys
from pathlib import Path

from vlm4vla import seeds
from vlm4vla.data import parts
from vlm4vla.data.collect import Progress, Settings, collect
from vlm4vla.data.reader import open_dataset
from vlm4vla.data.rigs import expert_rig
from vlm4vla.errors import UserError
from vlm4vla.sim.scene import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    parser.add_argument("--episodes", type=int, required=True, help="episodes of each task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--first-seed", type=int, default=seeds.TRAIN.start)
    parser.add_argument("--workers", type=int, default=2, help="processes that record")


def run(args: argparse.Namespace) -> int:
    """Records a dataset, or what is missing of it."""
    if args.workers < 1:
        raise UserError("Somebody has to record.", "Ask for at least one worker.")
    settings = Settings(tuple(args.tasks), args.first_seed, "expert")
    try:
        collect(args.out, settings, args.episodes, args.workers, expert_rig, _show)
    except KeyboardInterrupt:
        kept = len(parts.indices(args.out))
        print(
            f"\nStopped; {kept} episodes are kept in {args.out}. The same command continues, and "
            "a smaller --episodes finishes the dataset with fewer.",
            file=sys.stderr,
        )
        return 130
    dataset = open_dataset(args.out)
    print(f"{args.out}: {len(dataset.episodes)} episodes, {len(dataset)} frames")
    return 0


def _show(now: Progress) -> None:
    live = sys.stderr.isatty()
    if not live and now.episodes % 20 and now.episodes != now.total:
        return
    line = (
        f"{now.episodes}/{now.total} episodes, {now.frames} frames in {now.seconds:.0f} s, "
        f"{now.rate:.1f} frames/s, {now.left / 60:.0f} min left"
    )
    ending = "\n" if not live or now.episodes == now.total else ""
    print(f"\r{line}    " if live else line, end=ending, file=sys.stderr, flush=True)
