"""`vlm4vla rollout`: one episode, with a video and everything that happened in it."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import CHUNK, ExpertAgent
from vlm4vla.core.agent import Agent
from vlm4vla.core.condition import GIVEN, Condition
from vlm4vla.core.episode import AgentSpan, Episode, EpisodeSpec, goal_text
from vlm4vla.core.observation import Image
from vlm4vla.core.rollout import Recorder, rollout
from vlm4vla.core.suite import Suite
from vlm4vla.data.pictures import encode_preview
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import json_text, replacing
from vlm4vla.live.instruction import goal_in, understand
from vlm4vla.suites.maniskill.suite import instructed
from vlm4vla.suites.registry import MANISKILL, TABLETOP
from vlm4vla.suites.tabletop.scene import TASKS
from vlm4vla.suites.tabletop.suite import KNOWN, scene_of, with_sentence
from vlm4vla.workers.environment import EnvironmentProcess


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--checkpoint", help="let this policy act: its folder, or its name")
    who.add_argument("--expert", action="store_true", help="let the scripted expert act")
    parser.add_argument("--task", choices=TASKS, default="pick", help="which kind of scene")
    parser.add_argument("--env", metavar="ID", help="a stock ManiSkill environment instead")
    parser.add_argument("--seed", type=int, default=0, help="which scene")
    parser.add_argument("--instruction", help="a sentence (default: one that fits the scene)")
    parser.add_argument("--most-steps", type=int, default=0, help="end the episode after these")
    parser.add_argument(
        "--execute", type=int, default=0, help="actions carried out before the next look"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the two files")


def run(args: argparse.Namespace) -> int:
    """Runs the episode, keeps it, and writes `rollout.mp4` (H.264) and `episode.json`."""
    suite, spec, reading = _asked(args)
    agent = _agent(args)
    spec = _without_usual(suite, spec, agent)
    # Begun before the episode: that a file cannot be written is said before anything is kept.
    with replacing(args.out / "rollout.mp4") as film, replacing(args.out / "episode.json") as told:
        episode, views = _watched(suite, spec, agent, reading)
        EpisodeTable().put(episode, [])
        film.write_bytes(encode_preview(np.stack(views), round(suite.control_hz)))
        told.write_text(json_text(_told(episode)), "utf-8")
    verdict = "success" if episode.outcome.success else "failure"
    if spec.suite == TABLETOP.name and not spec.goal:
        verdict = "not judged"
    print(f"{spec.instruction}: {verdict} after {episode.steps} steps")
    return 0


def _watched(
    suite: Suite, spec: EpisodeSpec, agent: Agent, reading: dict[str, Any]
) -> tuple[Episode, list[Image]]:
    """Runs the episode; the pictures are those of the camera for people."""
    recorder = Recorder(suite, spec, [AgentSpan(agent.identity)])
    views: list[Image] = []
    environment = EnvironmentProcess(suite)
    try:
        for step in rollout(environment, agent, spec, cameras=suite.cameras[-1:]):
            recorder.add(step)
            views.append(step.transition.observation.images[suite.cameras[-1]])
            print(f"\rstep {recorder.steps}", end="", file=sys.stderr, flush=True)
    finally:
        environment.close()
    print(file=sys.stderr)
    return recorder.episode("rollout", reading=reading), views


def _told(episode: Episode) -> dict[str, object]:
    tabletop = episode.spec.suite == TABLETOP.name
    return {
        "id": episode.id,
        "environment": TABLETOP.name if tabletop else episode.spec.task,
        "task": episode.goal_task,
        "seed": episode.spec.seed,
        "instruction": episode.spec.instruction,
        "goal": goal_text(episode),
        "reading": dict(episode.reading),
        "driver": episode.agent.name,
        "checkpoint": None if episode.agent.kind == "expert" else episode.agent.digest,
        "success": episode.outcome.success,
        "steps": episode.steps,
        "events": [[event.step, event.name] for event in episode.events],
        "actions": episode.actions.tolist(),
    }


def _asked(args: argparse.Namespace) -> tuple[Suite, EpisodeSpec, dict[str, Any]]:
    if min(args.seed, args.most_steps, args.execute) < 0:
        raise UserError("Seeds, steps and executed actions start at 0.")
    changes = {"max_steps": args.most_steps, "replan_every": args.execute}
    if args.env:
        condition = Condition(GIVEN, **changes)
        return MANISKILL, instructed(args.env, args.seed, args.instruction, condition), {}
    drawn = TABLETOP.spec(args.task, args.seed, Condition(KNOWN, **changes))
    if args.instruction is None:
        return TABLETOP, drawn, {}
    reading = understand(args.instruction, scene_of(drawn))
    if not reading.judged:
        print(f"{reading.sentence} What happens is told, not judged.", file=sys.stderr)
    return TABLETOP, with_sentence(drawn, reading.text, goal_in(reading)), reading.as_json()


def _without_usual(suite: Suite, spec: EpisodeSpec, agent: Agent) -> EpisodeSpec:
    """The specification without numbers that are the agent's or the task's own."""
    chunk = agent.action.chunk if agent.action else CHUNK
    if spec.condition.replan_every > chunk:
        raise UserError(
            f"{agent.identity.name} plans {chunk} actions at once.", f"Execute at most {chunk}."
        )
    condition = spec.condition.without_usual(suite.limit(spec), agent.replan_every)
    return replace(spec, condition=condition)


def _agent(args: argparse.Namespace) -> Agent:
    if args.expert:
        return ExpertAgent()
    from vlm4vla.agents.policy import load_agent  # takes seconds: torch

    return load_agent(AgentCatalogue().folder(args.checkpoint))
