"""`vlm4vla distance`: how far rollouts lead from pictures of the expert in scenes of training."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from vlm4vla import paths, seeds
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.agents.several import each_once
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentSpan, EpisodeSpec, episode_id
from vlm4vla.core.rollout import versions_of
from vlm4vla.errors import UserError
from vlm4vla.eval.open_loop_results import DISTANCE, SHIPPED, file_name
from vlm4vla.eval.picture_distance import FEWEST, UNSEEN, Played, play, summarise
from vlm4vla.files import read_matching, write_json
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN
from vlm4vla.workers.environment import EnvironmentProcess

if TYPE_CHECKING:
    from vlm4vla.agents.policy import PolicyAgent

REFERENCE: Final = "reference"
POLICY: Final = "policy"
_DIGITS: Final = 5


class Asked(NamedTuple):
    """An episode to be played.

    Attributes:
        by: `REFERENCE` for the expert in a scene of training, `UNSEEN` for the expert and `POLICY`
            for the policy in a scene of selection.
        spec: of the episode.
    """

    by: str
    spec: EpisodeSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--checkpoint", nargs="+", required=True, help="checkpoint folders, or their names"
    )
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--episodes", type=int, default=20, help="of each task and kind")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the results")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Plays the episodes that were not played yet, and tells the means."""
    if args.episodes < 1:
        raise UserError("Episodes start at 1.")
    # It takes seconds: torch.
    from vlm4vla.agents.policy import load_agent

    catalogue = AgentCatalogue()
    agents = each_once(
        (load_agent(catalogue.folder(name)) for name in args.checkpoint),
        lambda one: (one.identity.name, one.identity.digest),
    )
    asked = _asked(list(dict.fromkeys(args.tasks)), args.episodes)
    found: dict[str, list[dict[str, Any]]] = {one.identity.digest: [] for one in agents}
    environment: EnvironmentProcess | None = None
    try:
        for index, one in enumerate(asked):
            played: Played | None = None
            for agent in agents:
                told = read_matching(_file(agent, one), _settings(agent, one))
                if told is None:
                    environment = environment or EnvironmentProcess(TABLETOP)
                    if one.by == POLICY:
                        played = play(TABLETOP, environment, agent, one.spec)
                    else:
                        played = played or play(TABLETOP, environment, ExpertAgent(), one.spec)
                    told = _keep(agent, one, played)
                found[agent.identity.digest].append(told)
            print(f"\r{index + 1} of {len(asked)} episodes", end="", file=sys.stderr, flush=True)
    finally:
        if environment is not None:
            environment.close()
        print(file=sys.stderr)
    answers = [_answer(args, agent, found[agent.identity.digest]) for agent in agents]
    for answer in answers:
        write_json(args.out / file_name(answer["name"], DISTANCE), answer)
        if not args.json:
            print(_line(answer))
    if args.json:
        print(json.dumps({"policies": answers}))
    return 0


def _asked(tasks: list[str], episodes: int) -> list[Asked]:
    # The expert looks at every step, as it does where policies learn from it.
    expert = Condition(KNOWN, replan_every=1)
    kinds = (
        (REFERENCE, seeds.TRAIN.start, expert),
        (UNSEEN, seeds.SELECT.start, expert),
        (POLICY, seeds.SELECT.start, Condition(KNOWN)),
    )
    return [
        Asked(by, TABLETOP.spec(task, first + number, condition))
        for by, first, condition in kinds
        for number in range(episodes)
        for task in tasks
    ]


def _keep(agent: "PolicyAgent", one: Asked, played: Played) -> dict[str, Any]:
    # It takes seconds: torch.
    from vlm4vla.representations.layers import pooled

    features = pooled(agent.policy, played.pictures)
    told = {
        **_settings(agent, one),
        "by": one.by,
        "task": one.spec.task,
        "seed": one.spec.seed,
        "success": played.success,
        "features": features.round(_DIGITS).tolist(),
    }
    write_json(_file(agent, one), told)
    return told


def _answer(
    args: argparse.Namespace, agent: "PolicyAgent", records: list[dict[str, Any]]
) -> dict[str, Any]:
    name, digest = agent.identity.name, agent.identity.digest
    command = ["vlm4vla", "distance", "--checkpoint", name, "--tasks", *args.tasks]
    command += ["--episodes", str(args.episodes)]
    features = [np.asarray(one["features"], np.float64) for one in records]
    known = [one for one, facts in zip(features, records, strict=True) if facts["by"] == REFERENCE]
    others = [
        (facts, one)
        for one, facts in zip(features, records, strict=True)
        if facts["by"] != REFERENCE
    ]
    return {
        "command": shlex.join(command),
        "name": name,
        "checkpoint": digest,
        "episodes": len(known),
        "versions": versions_of(TABLETOP, [AgentSpan(agent.identity)]),
        **summarise(np.concatenate(known), others),
    }


def _line(answer: dict[str, Any]) -> str:
    told = "; ".join(
        f"{row['group']} {row['mean']['mean']:.2f} (95 % {row['mean']['low']:.2f} to "
        f"{row['mean']['high']:.2f}, {row['mean']['n']} episodes)"
        for row in answer["groups"]
    )
    failures = (
        f"a failure is further off than a success of its task in {100 * answer['told']:.0f} % of "
        "pairs (50 % is chance)"
        if answer["told"] is not None
        else f"{answer['failures']} failures are too few to compare (below {FEWEST})"
    )
    return f"{answer['name']}, in units of the expert's median in unseen scenes: {told}; {failures}"


def _settings(agent: "PolicyAgent", one: Asked) -> dict[str, Any]:
    actor: Agent = agent if one.by == POLICY else ExpertAgent()
    span = [AgentSpan(actor.identity)]
    return {
        "checkpoint": agent.identity.digest,
        "episode": episode_id(one.spec, span, versions_of(TABLETOP, span)),
        "versions": versions_of(TABLETOP, [AgentSpan(agent.identity)]),
    }


def _file(agent: "PolicyAgent", one: Asked) -> Path:
    folder = paths.cache() / "distance" / agent.identity.digest
    return folder / f"{one.by}-{one.spec.task}-{one.spec.seed:07d}.json"
