"""`vlm4vla compare`: two checkpoints or two conditions on the same scenes."""

import argparse
import json
import sys

from vlm4vla import paths
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.commands.episodes import condition_of
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.pairs import Side, pairs
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.compare import compare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("a", help="one side: a checkpoint's name or folder, or an agent's digest")
    parser.add_argument("b", nargs="?", help="the other one (default: the same)")
    for side in ("a", "b"):
        parser.add_argument(
            f"--condition-{side}",
            metavar="JSON",
            default='{"words": "known"}',
            help=f"the condition of side {side}, such as %(default)s",
        )
    parser.add_argument(
        "--split", choices=("test", "select", "train"), default="test", help="of the seeds"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Compares what the table of episodes holds of both sides; runs nothing."""
    table = EpisodeTable()
    try:
        prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
    except UserError as error:
        # What is in the table can be compared even so.
        print(f"vlm4vla compare: {error}", file=sys.stderr)
    second = args.b or args.a
    catalogue = AgentCatalogue()
    a = Side(catalogue.digest_of(args.a), condition_of(args.condition_a))
    b = Side(catalogue.digest_of(second), condition_of(args.condition_b))
    if a == b:
        raise UserError(
            "Both sides are the same agent under the same condition.",
            "Name another checkpoint, or another --condition-b.",
        )
    rows = compare(pairs(table, a, b, args.split))
    if not rows:
        raise UserError(
            f"The table of episodes holds no {args.split} scene with the same goal for both sides.",
            "Run `vlm4vla eval` with the same tasks, seeds and goal for both.",
        )
    names = _name(args.a, a.condition, a, b), _name(second, b.condition, a, b)
    if args.json:
        print(json.dumps({"a": names[0], "b": names[1], "tasks": [row.to_json() for row in rows]}))
    else:
        for row in rows:
            print(f"{row.task}: {row.sentence(*names)}")
    return 0


def _name(name: str, condition: Condition, a: Side, b: Side) -> str:
    if a.condition == b.condition:
        return name
    return f"{name} ({', '.join(filter(None, [f'{condition.words} sentences', condition.label]))})"
