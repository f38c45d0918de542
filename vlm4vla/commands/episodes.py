"""`vlm4vla episodes`: what stands in the table of episodes."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

from vlm4vla import paths
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import KINDS, Filter, Order
from vlm4vla.episodes.parquet import export, import_
from vlm4vla.episodes.plain import agents_to_json
from vlm4vla.episodes.rates import RateRow, rates
from vlm4vla.episodes.rebuild import rebuild
from vlm4vla.episodes.rows import Row
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

_TEXTS: Final = {
    "agent": "digest of the agent",
    "suite": "benchmark suite",
    "task": "what the scene was drawn for",
    "goal-task": "the task that was carried out",
    "words": "which sentences: known, trained, broad, held-out or given",
    "split": "of the seeds: test, select, train",
    "outcome": "success, or the kind of failure",
    "source": "evaluation, live, rollout or collection",
    "name": "which evaluation, study or data set",
    "text": "letters in the instruction or the outcome",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="rows, newest first")
    listed.add_argument("--limit", type=int, default=20)
    listed.add_argument("--order", choices=get_args(Order), default="newest")
    shown = actions.add_parser("show", help="everything about one episode")
    shown.add_argument("id", help="of the episode, or the one in an old link")
    exported = actions.add_parser("export", help="write episodes into a parquet file")
    exported.add_argument("--out", type=Path, required=True, help="the file")
    exported.add_argument(
        "--without-traces",
        action="store_true",
        help="leave out what pictures are drawn from and what was predicted",
    )
    imported = actions.add_parser("import", help="bring episodes of parquet files in")
    imported.add_argument("files", type=Path, nargs="+")
    rated = actions.add_parser("rates", help="success rates, like counted with like")
    actions.add_parser("rebuild", help="make the table again from what can be read, and the log")
    for action in (listed, exported, rated):
        for name, meaning in _TEXTS.items():
            action.add_argument(f"--{name}", help=meaning)
        action.add_argument("--kind", choices=KINDS, help="what they belong to")
        action.add_argument("--condition", metavar="JSON", help="exactly this condition")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Carries one action out; the first one of all brings in what is there already."""
    table = EpisodeTable()
    if args.action != "rebuild":
        try:
            prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
        except UserError as error:
            # What is in the table can be looked at even so.
            print(f"vlm4vla episodes: {error}", file=sys.stderr)
    answer, lines = _ACTIONS[args.action](table, args)
    print(json.dumps(answer) if args.json else "\n".join(lines))
    return 0


_Answer = tuple[dict[str, Any], list[str]]


def _list(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    if not 1 <= args.limit <= 10**9:
        raise UserError("The limit is a number from 1 to 1,000,000,000.")
    wanted = _filter(args)
    rows = table.query(wanted, order=args.order, limit=args.limit)
    count = table.count(wanted)
    return {"count": count, "episodes": [_plain(row) for row in rows]}, [
        *(_line(row) for row in rows),
        f"{len(rows)} of {count} episodes",
    ]


def _show(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    row = table.row(args.id)
    episode = table.get(row.id)
    film = Films(table).path(row.id)
    answer = {
        **_plain(row),
        "memberships": [one._asdict() for one in table.memberships(row.id)],
        "labels": [one._asdict() for one in table.labels(row.id)],
        "film": str(film) if film else None,
        "arrays": {
            "actions": list(episode.actions.shape),
            "predictions": len(episode.predictions),
            "joints": list(episode.trace.joints.shape),
            "poses": list(episode.trace.poses.shape),
        },
    }
    return answer, [f"{name}: {_text(value)}" for name, value in answer.items()]


def _export(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    count = export(table, args.out, _filter(args), traces=not args.without_traces)
    return {"episodes": count, "file": str(args.out)}, [f"{count} episodes in {args.out}"]


def _import(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    came = {str(file): import_(file, table) for file in args.files}
    return {"new": came}, [f"{file}: {count} new episodes" for file, count in came.items()]


def _rates(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    rows = rates(table, _filter(args))
    plain = [
        {
            **row._asdict(),
            "condition": row.condition.to_json(),
            "rate": row.rate._asdict(),
        }
        for row in rows
    ]
    return {"rates": plain}, [_rate_line(row) for row in rows] or ["no episodes"]


def _rebuild(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    done = rebuild(table, Films(table))
    aside = f"; the old file is {done.aside}" if done.aside else ""
    return {**done._asdict(), "aside": str(done.aside) if done.aside else None}, [
        f"{done.saved} episodes of the old table, {done.logged} lines of the log, "
        f"{done.lost} that could not be read{aside}"
    ]


_ACTIONS: Final = {
    "list": _list,
    "show": _show,
    "export": _export,
    "import": _import,
    "rates": _rates,
    "rebuild": _rebuild,
}


def condition_of(text: str) -> Condition:
    """The condition that is written as JSON on the command line.

    Raises:
        UserError: it is none.
    """
    try:
        return Condition.from_json(json.loads(text))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{text!r} is no condition: {error}.",
            'Write it as JSON, such as {"words": "known"}.',
        ) from error


def _filter(args: argparse.Namespace) -> Filter:
    condition = condition_of(args.condition) if args.condition is not None else None
    return Filter(
        agent=args.agent,
        suite=args.suite,
        task=args.task,
        goal_task=args.goal_task,
        condition=condition,
        words=args.words,
        split=args.split,
        outcome=args.outcome,
        kind=args.kind,
        name=args.name,
        source=args.source,
        text=args.text or "",
    )


def _plain(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "legacy_id": row.legacy_id,
        "request_id": row.request_id,
        "spec": row.spec.to_json(),
        "goal_task": row.goal_task,
        "agents": agents_to_json(row.agents),
        "outcome": asdict(row.outcome),
        "steps": row.steps,
        "events": [list(event) for event in row.events],
        "times": asdict(row.times),
        "source": row.source,
        "versions": dict(row.versions),
        "reading": dict(row.reading),
        "created": row.created,
        "kinds": list(row.kinds),
        "current": row.current,
    }


def _line(row: Row) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created))
    return (
        f"{row.id}  {when}  {row.agent.digest[:12]:12}  {row.spec.task:8}{row.spec.seed:>9}  "
        f"{row.outcome.kind:13}{row.steps:>4}  {row.spec.instruction}"
    )


def _rate_line(row: RateRow) -> str:
    condition = f"{row.condition.words} sentences"
    parts = [condition, row.condition.label, f"{row.split} seeds", row.reading]
    parts += [] if row.drawn else ["scenes picked by people"]
    return (
        f"{row.agent[:12]:12}  {row.suite} {row.goal_task}: {row.rate.successes}/{row.rate.n} "
        f"({row.rate.rate:.1%}, 95 % interval {row.rate.low:.1%} to {row.rate.high:.1%}), "
        f"wrong object {row.wrong_object:.1%}, old goal done {row.old_goal_done:.1%}; "
        + ", ".join(filter(None, parts))
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
