"""`vlm4vla trust`: which attribution methods deserve trust for a checkpoint, measured."""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentSpan, Episode, EpisodeSpec, episode_id
from vlm4vla.core.rollout import record, versions_of
from vlm4vla.errors import UserError
from vlm4vla.files import read_matching, write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.agents.policy import PolicyAgent

TARGETS: Final = ("displacement", "gripper")
SUMMARY: Final = "trust.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--checkpoint", required=True, help="checkpoint folder, or its name")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(range(20)),
        help="scenes of each task; whoever checks the table draws others",
    )
    parser.add_argument(
        "--randomised",
        type=int,
        default=20,
        help="episodes, the first ones, whose first maps are also made with randomised weights",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the results; resumes what it holds"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Measures the episodes that the folder lacks and tells the table."""
    answer, lines = measure(args)
    print(json.dumps(answer) if args.json else "\n".join(lines))
    return 0


def verify(args: argparse.Namespace) -> int:
    """Measures other episodes than the shipped table's, and says where the two differ.

    Raises:
        UserError: see `measure`, there is no shipped table, or it was measured in the same scenes.
    """
    from vlm4vla.attribution import trust_check
    from vlm4vla.model.checkpoint import checkpoint_hash

    # Before anything is measured.
    shipped = trust_check.shipped_table(checkpoint_hash(AgentCatalogue().folder(args.checkpoint)))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    made = parser.parse_args(shlex.split(shipped.command)[2:])
    measured = made.seeds
    if again := sorted(set(args.seeds) & set(measured)):
        raise UserError(
            f"The shipped table was measured in scene {again[0]}, so it says nothing new of it.",
            f"Name others by --seeds: it has {min(measured)} to {max(measured)}.",
        )
    if set(made.tasks) != set(args.tasks):
        print(
            f"The shipped table is over {', '.join(made.tasks)}, and this one over "
            f"{', '.join(args.tasks)}: they may differ by that alone.",
            file=sys.stderr,
        )
    answer, _ = measure(args)
    checks = trust_check.compare(shipped.rows, answer["rows"])
    if args.json:
        print(json.dumps([{**one._asdict(), "holds": one.holds} for one in checks]))
    else:
        print(f"shipped: {shipped.command}")
        print("\n".join(trust_check.lines_of(checks)))
    return 0


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The trust table over the asked episodes, measured where the folder lacks them, and as text.

    Raises:
        UserError: seeds below 0, or there is no such checkpoint.
    """
    if min(args.seeds) < 0 or args.randomised < 0:
        raise UserError("Seeds and episodes start at 0.")
    # They take seconds: torch.
    from vlm4vla.agents.policy import load_agent
    from vlm4vla.attribution.trust import RANDOM_ORDERS, STRIDE
    from vlm4vla.attribution.trust_table import lines_of, trust_table, verdict

    agent = load_agent(AgentCatalogue().folder(args.checkpoint))
    span = (AgentSpan(agent.identity),)
    versions = versions_of(TABLETOP, span)
    # Task by task in turn, so that a run that is stopped early has some of each.
    specs = [
        TABLETOP.spec(task, seed, Condition(KNOWN))
        for seed in dict.fromkeys(args.seeds)
        for task in dict.fromkeys(args.tasks)
    ]
    found, environment = [], None
    try:
        for index, spec in enumerate(specs):
            settings = {
                "checkpoint": agent.identity.digest,
                "episode": episode_id(spec, span, versions),
                "random_orders": RANDOM_ORDERS,
                "stride": STRIDE,
                "randomised": index < args.randomised,
            }
            file = args.out / "episodes" / f"{spec.task}-{spec.seed:06d}.json"
            told = read_matching(file, settings)
            if told is None:
                environment = environment or EnvironmentProcess(TABLETOP)
                told = {**settings, **_measure(agent, environment, spec, index < args.randomised)}
                write_json(file, told)
            found.append(told)
            print(f"\r{index + 1} of {len(specs)} episodes", end="", file=sys.stderr, flush=True)
    finally:
        if environment is not None:
            environment.close()
    print(file=sys.stderr)
    records = [one for told in found for one in told["inferences"]]
    rows = trust_table(records)
    answer = {
        "command": _command(args),
        "checkpoint": agent.identity.digest,
        "episodes": len(found),
        "randomised": sum(told["randomised"] for told in found),
        "core_minutes": sum(told["core_seconds"] for told in found) / 60,
        "versions": versions,
        "verdict": verdict(rows),
        "rows": plain(rows),
    }
    write_json(args.out / SUMMARY, answer)
    return answer, [*lines_of(rows), *answer["verdict"]]


def plain(value: Any) -> Any:
    """The same value with None for every NaN, which JSON lacks."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _measure(
    agent: "PolicyAgent", environment: EnvironmentProcess, spec: EpisodeSpec, randomised: bool
) -> dict[str, Any]:
    """Runs an episode and measures the maps of two of its inferences."""
    from vlm4vla.attribution.inferences import apart, inference_of, parting
    from vlm4vla.attribution.randomised import ALL
    from vlm4vla.attribution.target import TARGETS as targets
    from vlm4vla.attribution.trust import collapse, examine
    from vlm4vla.attribution.trust_table import FIRST, PARTING

    began = time.process_time()
    chosen = [targets[name] for name in TARGETS]
    episode: Episode = record(TABLETOP, environment, agent, spec, "evaluation")
    distances = apart(environment, episode)
    later = parting(distances)
    inferences = []
    for when, index in ((FIRST, 0), (PARTING, later)):
        if index is None:
            continue
        step = episode.predictions[index].step
        inference = inference_of(environment, episode, step)
        # No two inferences share their random orders, so that chance evens out.
        seed = 2 * spec.seed * len(TASKS) + 2 * TASKS.index(spec.task) + (when == PARTING)
        told, maps = examine(agent.policy, inference, chosen, seed)
        told |= {"when": when, "step": step, "apart_mm": distances[index]}
        if randomised and when == FIRST:
            told["collapse"] = collapse(agent.policy, inference.question, chosen, maps, seed, [ALL])
        inferences.append(plain(told))
    return {
        "task": spec.task,
        "seed": spec.seed,
        "instruction": spec.instruction,
        "success": episode.outcome.success,
        "steps": episode.steps,
        "core_seconds": time.process_time() - began,
        "inferences": inferences,
    }


def _command(args: argparse.Namespace) -> str:
    words = ["vlm4vla", "trust", "--checkpoint", Path(args.checkpoint).name, "--tasks", *args.tasks]
    words += ["--seeds", *map(str, args.seeds), "--randomised", str(args.randomised)]
    return shlex.join([*words, "--out", args.out.name])
