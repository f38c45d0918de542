"""`vlm4vla eval`: success rates of a checkpoint in closed loop."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from vlm4vla import seeds
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.facts import KNOWN_SENTENCES
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Episode, EpisodeSpec, episode_id
from vlm4vla.core.rollout import versions_of
from vlm4vla.episodes.filters import Kind, Membership
from vlm4vla.episodes.legacy import import_evaluation
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.evaluate import evaluate
from vlm4vla.eval.metrics import describe, summarise, table
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import (
    BROAD,
    HELD_OUT,
    KNOWN,
    TRAINED,
    reference_kind,
    why_held_out,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or its name")
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
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        "--words",
        choices=(KNOWN, BROAD, HELD_OUT),
        default=KNOWN,
        help="held-out paraphrases of the known sentences, sentences of the whole language, or "
        "such of words and combinations that training leaves out",
    )
    words.add_argument(
        "--trained-sentences",
        action="store_true",
        help="use the sentences of training instead of the held-out paraphrases",
    )
    parser.add_argument(
        "--cell", metavar="NAME", help="the study's cell that the episodes belong to"
    )
    parser.add_argument("--workers", type=int, default=2, help="simulators at a time")
    parser.add_argument(
        "--out", type=Path, help="folder of a table of its own; resumes what it holds"
    )
    parser.add_argument(
        "--record", action="store_true", help="put the figures into the checkpoint's card"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Runs the episodes that have no row yet and tells the rates."""
    if min(args.episodes, args.workers) < 1 or args.first_seed < 0:
        raise UserError("Episodes and workers start at 1, seeds at 0.")
    if args.cell is not None and not args.cell.strip():
        raise UserError("The cell has no name.", "Name a study's cell, or leave --cell out.")
    split = seeds.evaluated(args.first_seed, args.episodes)
    if args.record and split != "test":
        raise UserError(
            "A card tells figures of test scenes, and these seeds choose between checkpoints.",
            "Leave --record out, or evaluate on seeds from 0 on.",
        )
    # They take seconds: torch.
    from vlm4vla.agents.workers import policy_workers
    from vlm4vla.model.checkpoint import checkpoint_hash

    checkpoint = AgentCatalogue().folder(args.checkpoint)
    tasks = list(dict.fromkeys(args.tasks))
    condition = Condition(TRAINED if args.trained_sentences else args.words, args.goal)
    numbers = range(args.first_seed, args.first_seed + args.episodes)
    specs = [TABLETOP.spec(task, seed, condition) for task in tasks for seed in numbers]
    # Every cell's policy lies in a folder of the same name.
    name = f"cell {args.cell}" if args.cell else checkpoint.name
    identity = AgentId("policy", checkpoint_hash(checkpoint), name)
    member = partial(_of_cell, args.cell) if args.cell else None
    rows = EpisodeTable(args.out)
    if args.out and (args.out / "evaluation.json").is_file():
        # A folder that an earlier version began: what it holds is not run again.
        import_evaluation(args.out, rows)
    with policy_workers(checkpoint) as make_agent:
        done = run_missing(rows, specs, identity, make_agent, args.workers, member)
    found = {task: summarise([one for one in done if one.spec.task == task]) for task in tasks}
    answer = {"checkpoint": identity.digest, "first_seed": args.first_seed, "tasks": found}
    if condition.words in (BROAD, HELD_OUT):
        answer["kinds"] = _grouped(done, reference_kind)
    if condition.words == HELD_OUT:
        answer["held_out"] = _grouped(done, why_held_out)
    if args.record:
        _record(checkpoint, answer, condition)
    if args.json:
        print(json.dumps({**answer, "episodes": str(rows.database.path)}))
    else:
        for line in table(found):
            print(line)
        for kind, row in answer.get("kinds", {}).items():
            print(describe(kind, row))
        for why, row in answer.get("held_out", {}).items():
            print(describe(f"{why} held out", row))
    return 0


def _grouped(
    episodes: Sequence[Episode], group_of: Callable[[EpisodeSpec], str]
) -> dict[str, dict[str, Any]]:
    """The metrics by what their specifications have in common."""
    groups: dict[str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(group_of(episode.spec), []).append(episode)
    return {group: summarise(groups[group]) for group in sorted(groups)}


def run_missing(
    rows: EpisodeTable,
    specs: Sequence[EpisodeSpec],
    agent: AgentId,
    make_agent: Callable[[], Agent],
    workers: int,
    member: Callable[[EpisodeSpec], Membership] | None = None,
    heading: Callable[[EpisodeSpec], str] = lambda spec: spec.task,
) -> list[Episode]:
    """The episodes of some tabletop specifications; those that the table lacks are run and kept.

    Args:
        rows: the table.
        specs: what is asked for.
        agent: of whom; under this name the episodes are kept.
        make_agent: see `evaluate`; not called if nothing is missing.
        workers: simulators at a time.
        member: where an episode belongs; None for `membership`.
        heading: what successes are counted by while it runs.

    Raises:
        UserError: see `evaluate`, or the table cannot be written; what is in it stays.
    """
    span, member = (AgentSpan(agent),), member or membership
    versions = versions_of(TABLETOP, span)
    wanted = {episode_id(spec, span, versions): spec for spec in specs}
    there = rows.known(wanted)
    for key in there:
        # A visitor or another command may have run it.
        rows.join(key, member(wanted[key]))
    missing = [spec for key, spec in wanted.items() if key not in there]
    wins: Counter[str] = Counter()
    tried: Counter[str] = Counter()

    def keep(episode: Episode) -> None:
        # Who acted knows no more than its folder's name.
        agents = (replace(one, agent=replace(one.agent, name=agent.name)) for one in episode.agents)
        episode = replace(episode, agents=tuple(agents))
        rows.put(episode, [member(episode.spec)])
        task = heading(episode.spec)
        tried[task] += 1
        wins[task] += episode.outcome.success
        print(f"\r{task}: {wins[task]} of {tried[task]}", end="", file=sys.stderr, flush=True)

    if missing:
        evaluate(TABLETOP, missing, make_agent, workers, keep)
        print(file=sys.stderr)
    return [rows.get(key) for key in wanted]


def membership(spec: EpisodeSpec) -> Membership:
    """Where an evaluated episode belongs, by the split of its seed."""
    kind: Kind = "evaluation" if spec.seed in seeds.TEST else "selection"
    return Membership(kind)


def _of_cell(name: str, spec: EpisodeSpec) -> Membership:
    return Membership("study", name)


def _record(checkpoint: Path, answer: dict[str, Any], condition: Condition) -> None:
    """Keeps the figures of first and alternate goals side by side."""
    from vlm4vla.model.checkpoint import record_evaluation, verify

    kept = dict(verify(checkpoint)["evaluation"])
    named = {KNOWN: KNOWN_SENTENCES, TRAINED: "of training"}
    figures = {**answer, "sentences": named.get(condition.words, condition.words)}
    if condition.goal == "alternate":
        record_evaluation(checkpoint, {**kept, "alternate": figures})
    else:
        alternate = {"alternate": kept["alternate"]} if "alternate" in kept else {}
        record_evaluation(checkpoint, figures | alternate)
