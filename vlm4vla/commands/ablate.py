"""`vlm4vla ablate`: what becomes of a policy's success without its picture, sentence or parts."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from vlm4vla import paths, seeds
from vlm4vla.ablation.divergence import Divergence, divergence
from vlm4vla.ablation.given import check_nameable
from vlm4vla.ablation.matrix import (
    PICTURE_ROWS,
    SENTENCE_COLUMNS,
    STUDY,
    Cell,
    compared,
    condition_of,
)
from vlm4vla.ablation.registry import PERTURBATIONS
from vlm4vla.ablation.words import changes_of
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.commands.eval import membership, run_missing
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, EpisodeSpec
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Membership, condition_key
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS

_SHOWN_STEPS: Final = (0, 4, 8, 16, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or its name")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--episodes", type=int, default=20, help="scenes of each task")
    parser.add_argument(
        "--first-seed", type=int, default=seeds.TEST.start, help="scenes from here on, below 100000"
    )
    parser.add_argument(
        "--grid",
        nargs="+",
        choices=("picture", "sentence"),
        help="every picture, every sentence, or each with each: what is kept, blank, another's, "
        "shuffled",
    )
    parser.add_argument(
        "--perturb",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "KEY=VALUE"),
        help="one more condition: a perturbation with its numbers, first_step and last_step, and "
        f"perhaps further ones; known: {', '.join(PERTURBATIONS)}",
    )
    parser.add_argument("--workers", type=int, default=2, help="simulators at a time")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Runs the episodes that have no row yet and compares each condition with the intact policy."""
    numbers = range(args.first_seed, args.first_seed + args.episodes)
    if min(args.episodes, args.workers) < 1:
        raise UserError("Episodes and workers start at 1.")
    if numbers[0] not in seeds.TEST or numbers[-1] not in seeds.TEST:
        raise UserError(
            f"Seeds {numbers[0]} to {numbers[-1]} are not for reporting.",
            f"Use seeds from {seeds.TEST.start} to {seeds.TEST.stop - 1}.",
        )
    further = [condition_of(*changes_of(words)) for words in args.perturb]
    grid = set(args.grid or ())
    if not further and not grid:
        raise UserError("Nothing is to be perturbed.", "Give --grid, --perturb, or both.")
    pictures = PICTURE_ROWS if "picture" in grid else PICTURE_ROWS[:1]
    sentences = SENTENCE_COLUMNS if "sentence" in grid else SENTENCE_COLUMNS[:1]
    conditions = [condition_of(p, s) for p in pictures for s in sentences]
    # What is asked for twice is one comparison, and all are adjusted together.
    conditions = list({condition_key(one): one for one in [*conditions, *further]}.values())
    tasks = list(dict.fromkeys(args.tasks))
    specs = [
        TABLETOP.spec(task, seed, condition)
        for condition in conditions
        for task in tasks
        for seed in numbers
    ]
    # Before anything runs: the condition that is impossible may be the last one.
    for spec in specs:
        check_nameable(spec, spec.condition.perturbations)
    # They take seconds: torch.
    from vlm4vla.ablation.workers import perturbed_workers
    from vlm4vla.model.checkpoint import checkpoint_hash

    checkpoint = AgentCatalogue().folder(args.checkpoint)
    identity = AgentId("policy", checkpoint_hash(checkpoint), checkpoint.name)
    table = EpisodeTable()
    prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
    with perturbed_workers(checkpoint, conditions) as make_agent:
        run_missing(table, specs, identity, make_agent, args.workers, _member, _heading)
    cells = compared(table, identity.digest, conditions[1:], tasks, numbers)
    apart = [_apart(table, cell, cells[0]) for cell in cells]
    if args.json:
        found = [_plain(cell, far) for cell, far in zip(cells, apart, strict=True)]
        answer = {"checkpoint": identity.digest, "first_seed": args.first_seed, "tasks": tasks}
        print(json.dumps({**answer, "cells": found, "episodes": str(table.database.path)}))
    else:
        for cell, far in zip(cells, apart, strict=True):
            print(_line(cell, far))
        print(
            "mm: mean distance of the executed displacement from the intact episode's, by step. "
            "p: exact McNemar test, adjusted (Holm).",
            file=sys.stderr,
        )
    return 0


def _member(spec: EpisodeSpec) -> Membership:
    return STUDY if spec.condition.perturbations else membership(spec)


def _heading(spec: EpisodeSpec) -> str:
    return f"{spec.condition.label or 'intact'}, {spec.task}"


def _apart(table: EpisodeTable, cell: Cell, intact: Cell) -> list[Divergence]:
    known = {(row.spec.task, row.spec.seed): row.id for row in intact.rows}
    pairs = [
        (table.get(row.id), table.get(known[scene]))
        for row in cell.rows
        if cell is not intact and (scene := (row.spec.task, row.spec.seed)) in known
    ]
    return divergence(pairs, TABLETOP.action)


def _plain(cell: Cell, apart: Sequence[Divergence]) -> dict[str, Any]:
    rate, other = cell.rate, cell.other_goal
    return {
        "condition": json.loads(condition_key(cell.condition)),
        "label": _label(cell.condition),
        "n": rate.n,
        "successes": rate.successes,
        "rate": rate.rate,
        "ci95": [round(rate.low, 4), round(rate.high, 4)],
        "wrong_object": cell.wrong_object.rate,
        "other_goal": other._asdict() if other else None,
        "paired": cell.paired._asdict() if cell.paired else None,
        "p": cell.p,
        "divergence": [one._asdict() for one in apart],
    }


def _line(cell: Cell, apart: Sequence[Divergence]) -> str:
    rate = cell.rate
    parts = [
        f"{_label(cell.condition)}: {rate.successes} of {rate.n} "
        f"(95 % {rate.low:.1%} to {rate.high:.1%})",
        f"wrong object {cell.wrong_object.rate:.1%}",
    ]
    if cell.other_goal:
        parts.append(f"the other object's goal {cell.other_goal.successes} of {cell.other_goal.n}")
    if cell.paired and cell.p is not None:
        low, high = 100 * cell.paired.low, 100 * cell.paired.high
        parts.append(
            f"{100 * cell.paired.difference:+.1f} points ({low:+.1f} to {high:+.1f}), "
            f"p = {cell.p:.2g}"
        )
    if shown := [one for one in apart if one.step in _SHOWN_STEPS]:
        parts.append("mm " + ", ".join(f"{one.step}: {one.mm:.1f}" for one in shown))
    return "; ".join(parts)


def _label(condition: Condition) -> str:
    return condition.label or "intact"
