"""`vlm4vla openloop`: how far policies are from the expert on the expert's own way."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm4vla import paths, seeds
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT, ExpertAgent
from vlm4vla.agents.facts import on_known_sentences
from vlm4vla.agents.several import each_once
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentSpan, EpisodeSpec, episode_id
from vlm4vla.core.rollout import versions_of
from vlm4vla.errors import UserError
from vlm4vla.eval.open_loop import ALL, LENGTH, STILL, follow, measure, predicted, summarise
from vlm4vla.eval.open_loop_results import SHIPPED, file_name
from vlm4vla.files import read_matching, write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.agents.policy import PolicyAgent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--checkpoint", nargs="+", required=True, help="checkpoint folders, or their names"
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--episodes", type=int, default=20, help="of the expert, of each task")
    parser.add_argument(
        "--first-seed", type=int, default=seeds.SELECT.start, help="seed of the first episode"
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the results")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Measures the episodes that were not measured yet, and tells the means."""
    if args.episodes < 1 or args.first_seed < 0:
        raise UserError("Episodes start at 1, seeds at 0.")
    # It takes seconds: torch.
    from vlm4vla.agents.policy import load_agent

    catalogue = AgentCatalogue()
    agents = each_once(
        (load_agent(catalogue.folder(name)) for name in args.checkpoint),
        lambda one: (one.identity.name, one.identity.digest),
    )
    for agent in agents:
        agent.action.check_means(TABLETOP.action, agent.identity.name)
    tasks = list(dict.fromkeys(args.tasks))
    # The expert looks at every step, as it does where policies learn from it.
    condition = Condition(KNOWN, replan_every=1)
    specs = [
        TABLETOP.spec(task, seed, condition)
        for seed in range(args.first_seed, args.first_seed + args.episodes)
        for task in tasks
    ]
    found: dict[str, list[dict[str, Any]]] = {one.identity.digest: [] for one in agents}
    environment: EnvironmentProcess | None = None
    try:
        for index, spec in enumerate(specs):
            missing = []
            for agent in agents:
                told = read_matching(_file(agent, spec), _settings(agent, spec))
                if told is None:
                    missing.append(agent)
                else:
                    found[agent.identity.digest].append(told)
            if missing:
                environment = environment or EnvironmentProcess(TABLETOP)
                followed = follow(TABLETOP, environment, ExpertAgent(), spec)
                for agent in missing:
                    chunks = predicted(agent.policy, followed)
                    told = measure(followed, chunks, agent.policy.spec.millimetres())
                    told = {**_settings(agent, spec), "task": spec.task, "seed": spec.seed, **told}
                    write_json(_file(agent, spec), told)
                    found[agent.identity.digest].append(told)
            print(f"\r{index + 1} of {len(specs)} episodes", end="", file=sys.stderr, flush=True)
    finally:
        if environment is not None:
            environment.close()
        print(file=sys.stderr)
    answers = [_answer(args, agent, catalogue, found[agent.identity.digest]) for agent in agents]
    for answer in answers:
        write_json(args.out / file_name(answer["name"]), answer)
        if not args.json:
            print(_line(answer))
    if args.json:
        print(json.dumps({"policies": answers}))
    return 0


def _answer(
    args: argparse.Namespace,
    agent: "PolicyAgent",
    catalogue: AgentCatalogue,
    records: list[dict[str, Any]],
) -> dict[str, Any]:
    name, digest = agent.identity.name, agent.identity.digest
    command = ["vlm4vla", "openloop", "--checkpoint", name, "--tasks", *args.tasks]
    command += ["--episodes", str(args.episodes), "--first-seed", str(args.first_seed)]
    evaluated = on_known_sentences(catalogue.evaluation(name))
    # What a checkpoint says of itself counts for the very weights alone.
    tasks = evaluated.get("tasks", {}) if evaluated.get("checkpoint") == digest else {}
    return {
        "command": shlex.join(command),
        "name": name,
        "checkpoint": digest,
        "episodes": len(records),
        "first_seed": args.first_seed,
        "versions": versions_of(TABLETOP, [AgentSpan(agent.identity)]),
        "success": {task: [row["successes"], row["n"]] for task, row in tasks.items()},
        **summarise(records),
    }


def _line(answer: dict[str, Any]) -> str:
    [row] = [one for one in answer["rows"] if one["task"] == one["phase"] == ALL]
    length, still = row[LENGTH], row[STILL]
    return (
        f"{answer['name']}: {length['mean']:.1f} mm from the expert's next action (95 % "
        f"{length['low']:.1f} to {length['high']:.1f}, {row['n']} episodes; no motion "
        f"{still['mean']:.1f} mm), along the chunk "
        f"{', '.join(format(one['mean'], '.1f') for one in answer['along'])} mm"
    )


def _settings(agent: "PolicyAgent", spec: EpisodeSpec) -> dict[str, Any]:
    span = [AgentSpan(EXPERT)]
    versions = versions_of(TABLETOP, [AgentSpan(agent.identity)])
    return {
        "checkpoint": agent.identity.digest,
        "episode": episode_id(spec, span, versions_of(TABLETOP, span)),
        "versions": versions,
    }


def _file(agent: "PolicyAgent", spec: EpisodeSpec) -> Path:
    folder = paths.cache() / "openloop" / agent.identity.digest
    return folder / f"{spec.task}-{spec.seed:06d}.json"
