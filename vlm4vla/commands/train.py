"""`vlm4vla train STAGE`: one gated stage of learning, resumable at any moment."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

from vlm4vla.commands.collect import policy_name, policy_rig
from vlm4vla.data.fill import Progress
from vlm4vla.errors import UserError
from vlm4vla.model.family import FAMILIES
from vlm4vla.model.groups import GROUPS, set_trainable
from vlm4vla.paths import home
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.train.dagger import DaggerRecipe, Recorder, run_dagger
from vlm4vla.train.presets import PRESETS, STAGES
from vlm4vla.train.run import Run, alone, require_one_process
from vlm4vla.train.speed.cpu_layers import require_compiler
from vlm4vla.train.stages import (
    CHECKPOINT,
    VLM,
    learned_and_unseen,
    open_frames,
    run_grounding,
    run_imitation,
    run_language,
    run_tokens,
)
from vlm4vla.train.start import INITS, identity_of, start_policy
from vlm4vla.train.whole import WHOLE, run_whole

ALL: Final = "all"
"""The whole recipe in place of one stage."""

_OF_ONE_PROCESS: Final = (ALL, "dagger")
"""What begins stages or records episodes in between, which several processes would all do."""

_OF_ONE_STAGE: Final = (
    "source",
    "words",
    "datasets",
    "rounds",
    "episodes",
    "keep",
    "steps",
    "sight_steps",
    "learning_rate",
    "shuffled",
    "comparisons",
)
"""What only one stage can be told, as the parser calls it."""

_ON_FRAMES: Final = ("grounding", "tokens", "imitation")
_COMPARING: Final = ("grounding", "imitation")

_TAKEN_BY: Final = {
    "init": _ON_FRAMES,
    "words": _ON_FRAMES,
    "data": (*_ON_FRAMES, ALL),
    "tasks": (*_ON_FRAMES, "dagger", ALL),
    "datasets": ("dagger",),
    "rounds": ("dagger",),
    "episodes": ("dagger",),
    "family": ("language", ALL),
    "keep": ("language",),
    "comparisons": _COMPARING,
    "drawings": ("language", ALL),
}
"""What not every stage makes use of, as the parser calls it, and the stages that do."""

_USUAL: Final = {"init": "vlm", "family": "qwen3-vl"}
"""What is meant where it is not said; the parser leaves it out, so that one knows it was not."""

_SIGHT: Final = {"language": "alignment_steps", "grounding": "sight_steps"}
"""Where a stage's recipe keeps its steps of sight."""


_LEAST: Final = {
    "steps": 1,
    "batch": 1,
    "accumulation": 1,
    "rounds": 1,
    "episodes": 1,
    "seed": 0,
    "check_every": 0,
    "workers": 0,
}
"""The least that a number may be, by the name that the parser gives it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "stage",
        choices=(*STAGES, ALL),
        help="what is learned; all: language, grounding and imitation, each where it stopped",
    )
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/STAGE)")
    parser.add_argument(
        "--from", dest="source", help="VLM or checkpoint to start from (default: the stage before)"
    )
    parser.add_argument(
        "--init",
        choices=INITS,
        help="its weights, random ones, or random ones as the tiny VLMs' pretraining began",
    )
    parser.add_argument(
        "--words",
        metavar="VLM",
        help="grounding, tokens, imitation: read with this VLM's tokenizer; words that both have "
        "keep their embeddings (default: the one of --from)",
    )
    parser.add_argument("--data", type=Path, help="training cache (default: cache/frames)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[], help="only these tasks")
    parser.add_argument(
        "--datasets", type=Path, nargs="+", default=[], help="dagger: what --from learned from"
    )
    parser.add_argument("--rounds", type=int, help="dagger: how many rounds")
    parser.add_argument("--episodes", type=int, help="dagger: episodes of a round, all tasks")
    parser.add_argument(
        "--train", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups that learn"
    )
    parser.add_argument(
        "--family", choices=tuple(FAMILIES), help="language, all: which VLM (default: qwen3-vl)"
    )
    parser.add_argument(
        "--keep",
        type=float,
        nargs="+",
        default=[],
        metavar="SHARE",
        help="language: keep the VLM after these shares of the steps, too (0.1 0.25 0.5)",
    )
    parser.add_argument(
        "--drawings", type=Path, help="language, all: keep the drawn pictures here for other runs"
    )
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="tiny, or the paper's")
    parser.add_argument("--steps", type=int, help="optimiser steps")
    parser.add_argument(
        "--sight-steps",
        type=int,
        help="language, grounding: how many of --steps teach the vision tower alone, first "
        "(default: 3000 and 1500; none in a language stage that goes on --from another)",
    )
    parser.add_argument(
        "--shuffled",
        action="store_true",
        default=None,
        help="tokens: answer with those of other frames, as a control",
    )
    parser.add_argument(
        "--comparisons",
        type=float,
        help="grounding, imitation: how many times as often broad sentences compare things "
        "(leftmost, nearest to, other than) as where they are measured (default: 1)",
    )
    parser.add_argument("--batch", type=int, help="pictures a batch")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--accumulation", type=int, help="batches a step")
    parser.add_argument("--seed", type=int, help="default: the preset's, 0 or the paper's 123")
    parser.add_argument("--check-every", type=int, default=250, help="steps between measurements")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile layers: some minutes, then about a fifth more samples a second",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that prepare batches (default: the cores, with an accelerator; else none)",
    )
    parser.add_argument("--track", metavar="PROJECT", help="log to trackio")
    parser.add_argument("--device", help="cpu or cuda (default: the accelerator if there is one)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Trains; a failed gate gives 2."""
    if args.stage in _OF_ONE_PROCESS:
        require_one_process(args.stage)
    _check_numbers(args)
    if args.stage != ALL:
        _check_taken(args)
    for name, usual in _USUAL.items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
    if args.compile:
        require_compiler()
    whole = _run_of(args.family) if args.stage == ALL else _run_of(args.stage)
    job = Run(
        args.out or whole,
        args.check_every,
        args.track,
        args.device,
        args.compile,
        args.workers,
    )
    # Said before anything is loaded.
    with alone(job):
        result = _train_all(job, args) if args.stage == ALL else _train(job, args)
    print(json.dumps({"stage": args.stage, "result": str(result)}) if args.json else result)
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuses numbers with which nothing can be trained."""
    for name, least in _LEAST.items():
        value = getattr(args, name)
        if value is not None and value < least:
            flag = _flag(name)
            raise UserError(f"{flag} {value} is too small.", f"Give {flag} at least {least}.")
    rate = args.learning_rate
    if rate is not None and not 0 < rate < inf:
        raise UserError(
            f"With --learning-rate {rate:g} nothing can be learned.",
            "Give --learning-rate a positive number, such as 6e-4.",
        )
    often = args.comparisons
    if often is not None and not 0 <= often < inf:
        raise UserError(
            f"--comparisons {often:g} is no number of times.",
            "Give --comparisons a number from 0 on; 1 draws them as often as they are measured.",
        )


def _check_taken(args: argparse.Namespace) -> None:
    """Refuses what the stage would make no use of."""
    for name, stages in _TAKEN_BY.items():
        if getattr(args, name) not in (None, []) and args.stage not in stages:
            raise UserError(
                f"The stage {args.stage} has no use for {_flag(name)}.",
                f"Leave it out; it is for {', '.join(stages)}.",
            )


def _flag(name: str) -> str:
    """An option as it is typed, by the name that the parser gives it."""
    return "--from" if name == "source" else f"--{name.replace('_', '-')}"


def _train(job: Run, args: argparse.Namespace) -> Path:
    """Runs the stage with the recipe that the arguments describe."""
    wanted = {
        "steps": args.steps,
        "batch": args.batch,
        "learning_rate": args.learning_rate,
        "accumulation": args.accumulation,
        "seed": args.seed,
    }
    recipe: Any = PRESETS[args.preset][args.stage]
    given = {name: value for name, value in wanted.items() if value is not None}
    if args.sight_steps is not None and args.stage not in _SIGHT:
        raise UserError(
            f"The stage {args.stage} has no sight steps.",
            "Give --sight-steps to language or grounding.",
        )
    if args.shuffled and args.stage != "tokens":
        raise UserError(
            f"The stage {args.stage} has no action tokens to shuffle.", "Give --shuffled to tokens."
        )
    if args.stage == "dagger":
        loop = replace(recipe.imitation.loop, **given)
        recipe = replace(recipe, imitation=replace(recipe.imitation, loop=loop))
        return _run_dagger(job, recipe, args)
    recipe = replace(recipe, loop=replace(recipe.loop, **given))
    if args.stage in _SIGHT:
        recipe = _with_sight(recipe, args)
    if args.comparisons is not None:
        recipe = replace(recipe, comparisons=args.comparisons)
    if args.stage != "language":
        return _learn(job, recipe, args)
    if set(args.train) != set(GROUPS):
        raise UserError(
            "The language stage makes a whole VLM, so --train cannot leave groups out.",
            "Name groups for grounding, imitation or dagger.",
        )
    recipe = replace(recipe, family=args.family)
    return run_language(job, recipe, args.source, keep=_shares(args.keep), drawings=args.drawings)


def _train_all(job: Run, args: argparse.Namespace) -> Path:
    """Runs every stage with the preset's recipes."""
    told = [name for name in _OF_ONE_STAGE if getattr(args, name) not in (None, [])]
    if set(args.train) != set(GROUPS) or args.init != "vlm":
        told.append("train" if args.init == "vlm" else "init")
    if told:
        raise UserError(
            f"{_flag(told[0])} is for one stage, not for all.",
            "Leave it out, or train the stages one by one.",
        )
    given = {"batch": args.batch, "accumulation": args.accumulation, "seed": args.seed}
    given = {name: value for name, value in given.items() if value is not None}
    presets: Mapping[str, Any] = PRESETS[args.preset]
    recipes = {
        name: replace(presets[name], loop=replace(presets[name].loop, **given)) for name in WHOLE
    }
    cache = open_frames(args.data or home() / "cache" / "frames")
    learned_and_unseen(cache, args.tasks)
    return run_whole(job, args.family, recipes, cache, args.tasks, args.drawings)


def _shares(wanted: Sequence[float]) -> list[float]:
    """Shares of a run's steps, in order."""
    for share in wanted:
        if not 0 < share < 1:
            raise UserError(
                f"{share:g} is no share of the steps.", "Give --keep numbers between 0 and 1."
            )
    return sorted(set(wanted))


def _with_sight(recipe: Any, args: argparse.Namespace) -> Any:
    """The recipe of a stage that begins with sight, with as much of it as is wanted."""
    name = _SIGHT[args.stage]
    if args.sight_steps is not None:
        recipe = replace(recipe, **{name: args.sight_steps})
    elif args.stage == "language" and args.source:
        recipe = replace(recipe, **{name: 0})
    sight, steps = getattr(recipe, name), recipe.loop.steps
    if not 0 <= sight < steps:
        raise UserError(
            f"Of {steps} steps, {sight} cannot be sight: the rest of the stage needs some.",
            "Give more --steps or fewer --sight-steps.",
        )
    return recipe


def _learn(job: Run, recipe: Any, args: argparse.Namespace) -> Path:
    """Grounding, tokens or imitation."""
    cache = open_frames(args.data or home() / "cache" / "frames")
    # Said before a large VLM is loaded.
    learned_and_unseen(cache, args.tasks)
    before = _run_of("language") / VLM
    if args.stage == "imitation":
        before = _run_of("grounding") / CHECKPOINT
    query = "zero" if args.preset == "paper" else "embedding"
    before = args.source or before
    job = replace(job, start=identity_of(before, args.init, args.words))
    policy = start_policy(before, args.init, args.device, query, recipe.loop.seed, args.words)
    set_trainable(policy, args.train)
    if args.stage == "grounding":
        return run_grounding(job, recipe, policy, cache, args.tasks)
    if args.stage == "tokens":
        recipe = replace(recipe, shuffled=bool(args.shuffled))
        return run_tokens(job, recipe, policy, cache, args.tasks, args.train)
    return run_imitation(job, recipe, policy, cache, args.tasks, args.train)


def _run_dagger(job: Run, recipe: DaggerRecipe, args: argparse.Namespace) -> Path:
    given = {"rounds": args.rounds, "episodes": args.episodes}
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    recorder = Recorder(
        rig=lambda checkpoint: partial(policy_rig, checkpoint),
        name=policy_name,
        report=_show_progress,
    )
    start = Path(args.source or _run_of("imitation") / CHECKPOINT)
    tasks = args.tasks or list(TASKS)
    return run_dagger(job, recipe, start, args.datasets, tasks, recorder, args.train)


def _run_of(stage: str) -> Path:
    return home() / "runs" / stage


def _show_progress(now: Progress) -> None:
    if now.episodes % 20 == 0 or now.episodes == now.total:
        print(
            f"{now.episodes}/{now.total} episodes, {now.left / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
