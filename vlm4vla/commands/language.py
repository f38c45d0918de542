"""`vlm4vla language`: how a sentence is read in a scene, and what is understood at all."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlm4vla.errors import UserError
from vlm4vla.files import replacing
from vlm4vla.language.coverage import Goals, count, page
from vlm4vla.language.draw import GoalKey, goal_key
from vlm4vla.language.reading import Reading, read_in_scene
from vlm4vla.language.things import Thing
from vlm4vla.suites.tabletop.scene import (
    LAYOUT_OF_TASK,
    TASKS,
    sample_episode,
    sample_scene,
    things,
)

PAGE = "language.md"
FIRST_SEED = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("sentence", nargs="*", metavar="SENTENCE", help="what is to be read")
    parser.add_argument("--task", choices=TASKS, default="pick", help="which kind of scene")
    parser.add_argument("--seed", type=int, default=0, help="which scene")
    parser.add_argument("--json", action="store_true", help="print readings as JSON, one a line")
    parser.add_argument(
        "--coverage",
        action="store_true",
        help="make the language page: what is understood, counted",
    )
    parser.add_argument("--scenes", type=int, default=40, help="scenes of each task for the page")
    parser.add_argument("--out", type=Path, default=Path("docs"), help=f"folder for {PAGE}")


def run(args: argparse.Namespace) -> int:
    """Prints the readings, or writes the page and says where."""
    if args.coverage:
        if args.scenes < 1:
            raise UserError("The page needs at least one scene of each task.")
        command = f"vlm4vla language --coverage --scenes {args.scenes} --out {args.out.name}"
        with replacing(args.out / PAGE) as temporary:
            temporary.write_text(page(count(_drawn(args.scenes)), command), "utf-8")
        print(args.out / PAGE)
        return 0
    if not args.sentence:
        raise UserError("There is no sentence to read.", 'Type one: vlm4vla language "lift it".')
    if args.seed < 0:
        raise UserError("Seeds start at 0.")
    scene = sample_scene(LAYOUT_OF_TASK[args.task], args.seed)
    there = things(scene)
    goals = [(goal.task, goal.object, goal.target) for goal in scene.goals()]
    if not args.json:
        print(f"On the table: {', '.join(thing.name for thing in there)}.")
    for sentence in args.sentence:
        reading = read_in_scene(sentence, there, goals)
        print(json.dumps(reading.as_json()) if args.json else _told(reading))
    return 0


def _told(reading: Reading) -> str:
    lines = [f"{reading.text}: {reading.kind}", f"  {reading.sentence}"]
    lines += [f'  read "{typed}" as "{read}"' for typed, read in reading.mended]
    if reading.goal:
        target = f" -> {reading.goal.target}" if reading.goal.target else ""
        lines.append(f"  {reading.goal.task}: {reading.goal.object}{target}")
    lines += [f"  instead: {suggestion}" for suggestion in reading.suggestions]
    return "\n".join(lines)


def _drawn(each: int) -> Iterator[tuple[Sequence[Thing], Goals, GoalKey]]:
    """Scenes of every task with one goal of each, those that the reported figures are from."""
    for task in TASKS:
        for seed in range(FIRST_SEED, FIRST_SEED + each):
            episode = sample_episode(task, seed)
            goal = episode.goal
            goals = [(g.task, g.object, g.target) for g in episode.scene.goals()]
            yield things(episode.scene), goals, goal_key(goal.task, goal.object, goal.target)
