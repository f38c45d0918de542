"""`vlm4vla collect`: record demonstrations with labels for every valid instruction."""

import argparse
import sys
from functools import partial
from pathlib import Path

from vlm4vla import seeds
from vlm4vla.data.collect import Settings, collect
from vlm4vla.data.fill import Progress
from vlm4vla.data.lerobot import parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.record import Rig
from vlm4vla.data.rigs import agent_rig, expert_rig
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop.scene import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    parser.add_argument("--episodes", type=int, required=True, help="episodes of each task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--first-seed", type=int, default=seeds.TRAIN.start)
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="CHECKPOINT",
        help="let this policy act; the expert still makes the labels (DAgger)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that record")


def run(args: argparse.Namespace) -> int:
    """Records a dataset, or what is missing of it."""
    if args.workers < 1:
        raise UserError("Somebody has to record.", "Ask for at least one worker.")
    driver, make_rig = "expert", expert_rig
    if args.policy:
        driver, make_rig = policy_name(args.policy), partial(policy_rig, args.policy)
    settings = Settings(tuple(dict.fromkeys(args.tasks)), args.first_seed, driver)
    try:
        collect(args.out, settings, args.episodes, args.workers, make_rig, show)
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


def policy_name(checkpoint: Path) -> str:
    """What a policy is called in the data: it changes with any of its weights.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    from vlm4vla.model.checkpoint import checkpoint_hash  # takes seconds: torch

    return f"policy {checkpoint_hash(checkpoint)}"


def policy_rig(checkpoint: Path) -> Rig:
    """The environment with a policy acting, as many actions an inference as it was made for.

    Raises:
        UserError: `checkpoint` is no whole checkpoint folder.
    """
    from vlm4vla.agents.policy import single_threaded_agent  # takes seconds: torch

    return agent_rig(single_threaded_agent(checkpoint), policy_name(checkpoint))


def show(now: Progress) -> None:
    """Tells people how far a collection is."""
    live = sys.stderr.isatty()
    if not live and now.episodes % 20 and now.episodes != now.total:
        return
    line = (
        f"{now.episodes}/{now.total} episodes, {now.frames} frames in {now.seconds:.0f} s, "
        f"{now.rate:.1f} frames/s, {now.left / 60:.0f} min left"
    )
    if now.episodes == now.total:
        line += "; putting them together"
    ending = "\n" if not live or now.episodes == now.total else ""
    print(f"\r{line}    " if live else line, end=ending, file=sys.stderr, flush=True)
