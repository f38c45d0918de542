"""`vlm4vla failures`: why episodes failed, counted by task and label."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from vlm4vla import files, paths
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import KINDS
from vlm4vla.episodes.labels import SUCCESS
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.failures import RULES
from vlm4vla.eval.labelling import (
    ALL,
    FACETS,
    Query,
    Summary,
    as_csv,
    as_jsonl,
    label_missing,
    say,
    summarise,
)
from vlm4vla.statistics import Rate

_TEXTS: Final = {
    "task": "the tasks that were carried out",
    "label": "automatic labels",
    "condition": "conditions, such as 'known sentences', or 'all' (default: the newest)",
    "agent": "digests of agents, or 'all' (default: that of the newest evaluation)",
    "objects": "numbers of movable objects",
    "human": "labels of people, or 'not labelled'",
}

_FORMS: Final = {".csv": as_csv, ".jsonl": as_jsonl}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name in FACETS:
        known = (*RULES, SUCCESS) if name == "label" else None
        parser.add_argument(
            f"--{name}",
            nargs="+",
            default=[],
            choices=known,
            metavar=name.upper(),
            help=_TEXTS[name],
        )
    parser.add_argument("--kind", choices=(*KINDS, ALL), default="evaluation", help="belonging to")
    for axis in "xy":
        parser.add_argument(
            f"--{axis}",
            nargs=2,
            type=float,
            metavar=("FROM", "TO"),
            help="where the named object lay, metres; both axes together",
        )
    parser.add_argument("--out", type=Path, help="write the episodes into a .csv or .jsonl file")
    parser.add_argument("--rules", action="store_true", help="print the rules in words")
    parser.add_argument("--say", metavar="ID", help="label an episode by hand, or note something")
    parser.add_argument("--as", dest="said", metavar="LABEL", default="", help="the label")
    parser.add_argument("--who", default="", help="who says so")
    parser.add_argument("--note", default="", help="a note on it")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Labels what has no label yet, and tells the counts."""
    if args.rules:
        rules = {name: RULES.get(name).words for name in RULES}
        lines = [f"{name}: {words}" for name, words in rules.items()]
        print(json.dumps({"rules": rules}) if args.json else "\n".join(lines))
        return 0
    if args.out and args.out.suffix not in _FORMS:
        raise UserError(f"{args.out} is neither .csv nor .jsonl.", "Give it one of these endings.")
    if (args.x is None) != (args.y is None):
        raise UserError("A part of the table needs --x and --y.", "Give both.")
    table = EpisodeTable()
    try:
        prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
    except UserError as error:
        # What is in the table can be counted even so.
        print(f"vlm4vla failures: {error}", file=sys.stderr)
    if args.say:
        say(table, args.say, args.said, args.who, args.note)
        print(json.dumps({"said": args.say}) if args.json else f"Kept, of {args.say}.")
        return 0
    if label_missing(table, _report):
        print(file=sys.stderr)
    found = summarise(table, _query(args))
    if args.out:
        with files.replacing(args.out) as temporary, temporary.open("w", encoding="utf-8") as out:
            out.writelines(_FORMS[args.out.suffix](table, found))
    if args.json:
        print(json.dumps(_plain(found)))
        return 0
    print(found.sentence)
    for cell in found.cells:
        if cell.rate.successes:
            print(f"  {cell.task:8}{cell.label:16}{_share(cell.rate)}")
    print(_agreement(found))
    if args.out:
        print(f"{found.total} episodes in {args.out}")
    return 0


def _query(args: argparse.Namespace) -> Query:
    address = {"kind": args.kind}
    if args.x:
        address |= {axis: "~".join(map(str, getattr(args, axis))) for axis in "xy"}
    plain = Query.from_address(address)
    several = {name: tuple(getattr(args, name)) for name in FACETS}
    return Query(**{**vars(plain), **several})


def _report(done: int, count: int) -> None:
    print(f"\r{done} of {count} episodes labelled", end="", file=sys.stderr, flush=True)


def _plain(found: Summary) -> dict[str, Any]:
    return {
        "query": found.query.to_address(),
        "sentence": found.sentence,
        "failed": found.failed._asdict(),
        "cells": [
            {"task": one.task, "label": one.label, **one.rate._asdict()} for one in found.cells
        ],
        "facets": {
            name: [one._asdict() for one in values] for name, values in found.facets.items()
        },
        "episodes": found.total,
        "kappa": found.kappa._asdict(),
    }


def _share(rate: Rate) -> str:
    return (
        f"{rate.successes} of {rate.n} (95 % interval {100 * rate.low:.0f} to "
        f"{100 * rate.high:.0f} %)"
    )


def _agreement(found: Summary) -> str:
    kappa = found.kappa
    if kappa.kappa is None:
        return f"{kappa.n} of these failures are labelled by people."
    return (
        f"Rules and people: {kappa.agreed} of {kappa.n} alike, Cohen's kappa {kappa.kappa:.2f} "
        f"(95 % interval {kappa.low:.2f} to {kappa.high:.2f})."
    )
