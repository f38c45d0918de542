"""`vlm4vla train STAGE`: one gated stage of learning, resumable at any moment."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm4vla.model.groups import GROUPS
from vlm4vla.paths import home
from vlm4vla.sim.scene import TASKS
from vlm4vla.train.presets import PRESETS, STAGES
from vlm4vla.train.stages import (
    CHECKPOINT,
    VLM,
    Run,
    open_frames,
    run_grounding,
    run_imitation,
    run_language,
    start_policy,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("stage", choices=STAGES, help="what is learned")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/STAGE)")
    parser.add_argument(
        "--from", dest="source", help="VLM or checkpoint to start from (default: the stage before)"
    )
    parser.add_argument(
        "--init", choices=("vlm", "scratch"), default="vlm", help="its weights, or random ones"
    )
    parser.add_argument("--data", type=Path, help="training cache (default: cache/frames)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[], help="only these tasks")
    parser.add_argument(
        "--train", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups that learn"
    )
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="tiny, or the paper's")
    parser.add_argument("--steps", type=int, help="optimiser steps")
    parser.add_argument("--batch", type=int, help="pictures a batch")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--accumulation", type=int, help="batches a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check-every", type=int, default=250, help="steps between measurements")
    parser.add_argument("--track", metavar="PROJECT", help="log to trackio")
    parser.add_argument("--device", help="cpu or cuda (default: the accelerator if there is one)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Trains; a failed gate gives 2."""
    runs = home() / "runs"
    job = Run(args.out or runs / args.stage, args.check_every, args.track, args.device)
    wanted = {
        "steps": args.steps,
        "batch": args.batch,
        "learning_rate": args.learning_rate,
        "accumulation": args.accumulation,
        "seed": args.seed,
    }
    recipe: Any = PRESETS[args.preset][args.stage]
    given = {name: value for name, value in wanted.items() if value is not None}
    recipe = replace(recipe, loop=replace(recipe.loop, **given))
    if args.stage == "language":
        result = run_language(job, recipe)
    else:
        cache = open_frames(args.data or home() / "cache" / "frames")
        before = runs / "language" / VLM
        if args.stage == "imitation":
            before = runs / "grounding" / CHECKPOINT
        policy = start_policy(args.source or before, args.init, args.device)
        if args.stage == "grounding":
            result = run_grounding(job, recipe, policy, cache, args.tasks)
        else:
            result = run_imitation(job, recipe, policy, cache, args.tasks, args.train)
    print(json.dumps({"stage": args.stage, "result": str(result)}) if args.json else result)
    return 0
