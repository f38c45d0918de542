"""`vlm4vla failures`: why episodes failed, counted by task and label."""

import argparse
import contextlib
import datetime
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vlm4vla import files, paths
from vlm4vla.core.environment import Environment
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.labels import RECORDERS, SUCCESS
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval import label_check
from vlm4vla.eval.failures import RULES
from vlm4vla.eval.labelling import (
    Query,
    Summary,
    as_csv,
    as_jsonl,
    label_missing,
    say,
    summarise,
)
from vlm4vla.eval.tally import ALL, FACETS
from vlm4vla.inspection.sheets import contact_sheet
from vlm4vla.statistics import Kappa, Rate
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentProcess

_TEXTS: Final = {
    "task": "the tasks that were carried out",
    "label": "automatic labels, or 'all' for successes, too",
    "condition": "conditions, such as 'known sentences', or 'all' (default: the newest)",
    "agent": "digests of agents, or 'all' (default: that of the newest evaluation)",
    "objects": "numbers of movable objects",
    "human": "labels of people, or 'not labelled'",
}

_FORMS: Final = {".csv": as_csv, ".jsonl": as_jsonl}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name in FACETS:
        known = (*RULES, SUCCESS, ALL) if name == "label" else None
        parser.add_argument(
            f"--{name}",
            nargs="+",
            default=[],
            choices=known,
            metavar=name.upper(),
            help=_TEXTS[name],
        )
    parser.add_argument(
        "--kind", choices=(*RECORDERS, ALL), default="evaluation", help="recorded by"
    )
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
    parser.add_argument(
        "--sheets", type=Path, metavar="DIR", help="draw failures as sheets for a person to label"
    )
    parser.add_argument("--number", type=int, help="how many sheets (default: 100)")
    parser.add_argument("--seed", type=int, help="of their choice (default: 0)")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="CSV",
        help="compare the labels of such sheets with the rules (--who labelled, --out a .json)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Labels what has no label yet, and tells the counts."""
    _check_used(args)
    if args.rules:
        rules = {name: RULES.get(name).words for name in RULES}
        lines = [f"{name}: {words}" for name, words in rules.items()]
        print(json.dumps({"rules": rules}) if args.json else "\n".join(lines))
        return 0
    if args.check and args.out and args.out.suffix != ".json":
        raise UserError(f"{args.out} does not end in .json.", "A check is kept as .json.")
    if args.check and not args.who.strip():
        raise UserError("Nobody says who labelled.", "Add --who.")
    if args.out and not args.check and args.out.suffix not in _FORMS:
        raise UserError(f"{args.out} is neither .csv nor .jsonl.", "Give it one of these endings.")
    if (args.x is None) != (args.y is None):
        raise UserError("A part of the table needs --x and --y.", "Give both.")
    query = _query(args)
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
    if args.check:
        return _check(table, args)
    found = summarise(table, query)
    if args.sheets:
        return _sheets(table, found, args)
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


def _check_used(args: argparse.Namespace) -> None:
    """Refuses what would be left aside without a word."""
    for flag, given, needed, used in (
        ("--as", args.said, "--say", args.say),
        ("--note", args.note, "--say", args.say),
        ("--who", args.who, "--say or --check", args.say or args.check),
        ("--number", args.number is not None, "--sheets", args.sheets),
        ("--seed", args.seed is not None, "--sheets", args.sheets),
    ):
        if given and not used:
            raise UserError(f"{flag} is of no use without {needed}.", f"Add {needed}.")
    told = [name for name in ("rules", "say", "check", "sheets") if getattr(args, name)]
    if len(told) > 1:
        raise UserError(
            f"--{told[0]} and --{told[1]} are two tasks.", "Ask for one after the other."
        )
    if args.out and told and told != ["check"]:
        raise UserError(f"--{told[0]} writes nothing into --out.", "Leave --out out.")


def _sheets(table: EpisodeTable, found: Summary, args: argparse.Namespace) -> int:
    """Draws the sheets of a sample; those that are there already stay."""
    number = 100 if args.number is None else args.number
    seed = args.seed or 0
    drawn = label_check.draw(table, found.wanted, number, seed)
    ids = [one.row.id for one in drawn]
    label_check.prepare(args.sheets, ids, seed=seed, drawn_from=found.total)
    folder = args.sheets / label_check.SHEETS
    wanted = [
        (folder / f"{label_check.sheet_name(place)}.png", key) for place, key in enumerate(ids)
    ]
    missing = [(path, key) for path, key in wanted if not path.exists()]
    if missing:
        with _simulator() as environment:
            for place, (path, key) in enumerate(missing, 1):
                drawing = contact_sheet(table.get(key), environment, path.stem)
                with files.replacing(path) as temporary:
                    temporary.write_bytes(drawing)
                print(f"\r{place} of {len(missing)} sheets", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    told = {"sheets": len(wanted), "drawn_from": found.total, "folder": str(args.sheets)}
    print(
        json.dumps(told)
        if args.json
        else f"{len(wanted)} sheets of {found.total} failures in {args.sheets}"
    )
    return 0


def _check(table: EpisodeTable, args: argparse.Namespace) -> int:
    """Compares a person's labels with the automatic ones."""
    words = ["vlm4vla", "failures", "--check", args.check.name, "--who", args.who]
    check = label_check.compare(
        table,
        args.check,
        " ".join(args.who.split()),
        shlex.join(words),
        datetime.date.today().isoformat(),
    )
    if args.out:
        label_check.write_check(args.out, check)
    if args.json:
        pairs = [{"automatic": a, "person": b, "n": n} for a, b, n in check.confusion()]
        print(json.dumps({"check": {**check.kappa._asdict(), "pairs": pairs}}))
        return 0
    print(_alike(check.kappa))
    print(f"  {'rules':16}{'person':16}films")
    for automatic, said, n in check.confusion():
        print(f"  {automatic:16}{said:16}{n}")
    return 0


@contextlib.contextmanager
def _simulator() -> Iterator[Environment]:
    environment = EnvironmentProcess(TABLETOP)
    try:
        yield environment
    finally:
        environment.close()


def _query(args: argparse.Namespace) -> Query:
    address = {"kind": args.kind, "objects": "~".join(args.objects)}
    if args.x:
        address |= {axis: "~".join(map(str, getattr(args, axis))) for axis in "xy"}
    plain = Query.from_address(address)
    # An address is read without what makes no sense in it; here it would be answered as if that
    # had not been asked for.
    if args.x and plain.region is None:
        raise UserError(
            f"--x {args.x[0]:g} {args.x[1]:g} --y {args.y[0]:g} {args.y[1]:g} is no part of the "
            "table.",
            "Give metres, such as --x -0.1 0.1 --y 0 0.2.",
        )
    if plain.objects != tuple(args.objects):
        raise UserError(
            f"--objects {' '.join(args.objects)}: these are not all numbers of objects.",
            "Give whole numbers from 0 to 99.",
        )
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
    if found.kappa.kappa is None:
        return f"{found.kappa.n} of these failures are labelled by people."
    return _alike(found.kappa)


def _alike(kappa: Kappa) -> str:
    same = f"Rules and people: {kappa.agreed} of {kappa.n} alike"
    if kappa.kappa is None:
        return f"{same}; Cohen's kappa is not defined where only one label is used."
    return (
        f"{same}, Cohen's kappa {kappa.kappa:.2f} "
        f"(95 % interval {kappa.low:.2f} to {kappa.high:.2f})."
    )
