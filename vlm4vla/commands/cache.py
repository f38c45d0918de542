"""`vlm4vla cache`: lay datasets out for training."""

import argparse
import sys
import time
from pathlib import Path

from vlm4vla import paths
from vlm4vla.data.cache import build_cache, open_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of datasets")
    parser.add_argument(
        "--out",
        type=Path,
        default=paths.cache() / "frames",
        help="folder of the cache (default: where `vlm4vla train` looks)",
    )


def run(args: argparse.Namespace) -> int:
    """Builds a cache and tells its size."""
    shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        if done == total or time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{done}/{total} frames", file=sys.stderr, flush=True)

    build_cache(args.data, args.out, show)
    cache = open_cache(args.out)
    train, validation = cache.split()
    print(
        f"{args.out}: {len(cache)} frames of {len(cache.episodes)} episodes with "
        f"{len(cache.chunks)} labels; {len(train)} frames to learn from, {len(validation)} to "
        "check on"
    )
    if not len(validation):
        print(
            "All frames are of one scene, and training needs at least two, one of them to check "
            "on: collect 2 or more episodes of each task with `vlm4vla collect --episodes`.",
            file=sys.stderr,
        )
    return 0
