"""`vlm4vla study`: the paper's studies as grids of cells, each run by ordinary commands."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from vlm4vla import paths
from vlm4vla.data.cache import open_cache
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.studies import cluster, paper_tables, predictor, report
from vlm4vla.studies.cell import measure_command
from vlm4vla.studies.measures import NAMED
from vlm4vla.studies.registry import PAPER, STUDIES
from vlm4vla.studies.run import CLI, Runner
from vlm4vla.studies.same_data import same_data
from vlm4vla.studies.status import done, episodes_of, measured, to_measure
from vlm4vla.studies.study import Member, Study, studies
from vlm4vla.studies.trained import begun, checkpoint_of
from vlm4vla.studies.verify import verify
from vlm4vla.workers import pinned

_CORES: Final = sorted(
    os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
)
"""Numbers of the cores that this process may use."""

_Answer = tuple[dict[str, Any], list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="the studies, their cells, and what is done")
    listed.add_argument("name", nargs="?", choices=STUDIES, help="one of them, cell by cell")
    ran = actions.add_parser("run", help="train, evaluate and measure the cells that lack it")
    ran.add_argument("name", choices=STUDIES)
    ran.add_argument(
        "--preset",
        choices=("tiny", "paper"),
        default="tiny",
        help="tiny: run it here; paper: write the full-size runs as scripts into --out",
    )
    ran.add_argument("--out", type=Path, help="folder of the scripts")
    ran.add_argument("--data", type=Path, help="training cache (default: cache/frames)")
    ran.add_argument("--cells", nargs="+", metavar="NAME", help="only these, by name or level")
    ran.add_argument("--seeds", nargs="+", type=int, help="only these training seeds")
    ran.add_argument("--families", nargs="+", help="only these families of VLMs")
    ran.add_argument(
        "--cores", nargs="+", type=int, help="one cell at a time on each (default: every core)"
    )
    ran.add_argument(
        "--resume", action="store_true", help="go on with cells whose training was begun before"
    )
    reported = actions.add_parser("report", help="results with intervals, from the table alone")
    reported.add_argument("name", nargs="?", choices=STUDIES, help="one of them (default: all)")
    gauged = actions.add_parser(
        "measure", help="probes, CKA and attribution of evaluated cells whose policies are here"
    )
    gauged.add_argument("name", nargs="?", choices=STUDIES, help="one study (default: all)")
    gauged.add_argument("--cells", nargs="+", metavar="NAME", help="only these, by name or level")
    verified = actions.add_parser("verify", help="train a cell again and compare its episodes")
    verified.add_argument("name", choices=STUDIES)
    verified.add_argument("--cell", required=True, help="the cell's name; see `study list`")
    verified.add_argument("--data", type=Path, help="training cache (default: cache/frames)")
    verified.add_argument("--core", type=int, default=_CORES[0], help="the core that it keeps to")
    printed = actions.add_parser("paper", help="the paper's own numbers, as tables")
    printed.add_argument(
        "table", nargs="?", choices=paper_tables.tables(), help="one of them, number by number"
    )
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Carries one action out."""
    if args.action == "paper":
        # No episode is asked for: the table, which takes minutes to fill, is left alone.
        answer, lines = _paper(args)
    else:
        table = EpisodeTable()
        prepare(table, Films(table), legacy=paths.home(), shipped=SHIPPED)
        answer, lines = _ACTIONS[args.action](table, args)
    print(json.dumps(answer) if args.json else "\n".join(lines))
    return 0


def _paper(args: argparse.Namespace) -> _Answer:
    found = paper_tables.tables()
    chosen = [found[args.table]] if args.table else list(found.values())
    lines = (
        paper_tables.lines(chosen[0])
        if args.table
        else [f"{one.name}: {one.title} ({len(one.entries)} numbers)" for one in chosen]
    )
    return {"tables": [paper_tables.to_json(one) for one in chosen]}, lines


def _list(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    chosen = [STUDIES[args.name]] if args.name else list(STUDIES.values())
    answer, lines = [], []
    for study in chosen:
        cells = [_status(table, member) for member in study.members]
        whole = sum(cell["episodes"] == cell["expected"] for cell in cells)
        answer.append({"name": study.name, "question": study.question, "cells": cells})
        lines.append(f"{study.name}: {whole} of {len(cells)} cells done. {study.question}")
        if args.name:
            lines += [
                f"  {cell['name']}  {cell['episodes']:4} of {cell['expected']} episodes  "
                f"{cell['label']}{_lacks(cell)}"
                for cell in cells
            ]
    return {"studies": answer}, lines


def _lacks(cell: dict[str, Any]) -> str:
    if not cell["episodes"]:
        return "  (not run)"
    return "" if cell["measured"] or cell["episodes"] < cell["expected"] else "  (not measured)"


def _status(table: EpisodeTable, member: Member) -> dict[str, Any]:
    return {
        "name": member.cell.name,
        "label": member.label,
        "level": member.level,
        "family": member.cell.start.family,
        "seed": member.cell.seed,
        "episodes": len(episodes_of(table, member.cell).rows),
        "expected": member.cell.expected,
        "measured": measured(member.cell) is not None,
    }


def _run(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    if args.preset == "paper":
        return _write(args)
    if args.out:
        raise UserError("--out is for the scripts of --preset paper.", "Leave it out.")
    study = STUDIES[args.name]
    chosen = select(study, args.cells, args.seeds, args.families)
    missing = [
        member
        for member in chosen
        if not done(table, member.cell) or to_measure(table, member.cell)
    ]
    cores = list(dict.fromkeys(args.cores or _CORES))
    _check_cores(cores)
    if missing:
        data = args.data or _frames()
        _check_begun(missing, args.resume)
        _check(missing, data)
        Runner(table, data, cores, _tell).run(missing)
    cells = [_status(table, member) for member in chosen]
    return {"study": study.name, "cells": cells}, [
        f"{cell['name']}  {cell['episodes']} of {cell['expected']} episodes  {cell['label']}"
        for cell in cells
    ]


def select(
    study: Study,
    cells: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    families: Sequence[str] | None = None,
) -> list[Member]:
    """The chosen cells of a study, in its order.

    Args:
        study: which.
        cells: names or levels; None for all.
        seeds: training seeds; None for all.
        families: families of VLMs; None for all.

    Raises:
        UserError: there is none of that name, training seed or family, or none at all.
    """
    known = {key for one in study.members for key in (one.cell.name, one.level)}
    if unknown := sorted(set(cells or ()) - known):
        raise UserError(
            f"The study {study.name} has no cell {unknown[0]!r}.",
            f"`vlm4vla study list {study.name}` lists them; levels are "
            f"{', '.join(map(repr, study.levels))}.",
        )
    _check_there(study, "training seed", seeds, [one.cell.seed for one in study.members])
    _check_there(study, "family", families, [one.cell.start.family for one in study.members])
    chosen = [
        one
        for one in study.members
        if (not cells or one.cell.name in cells or one.level in cells)
        and (not seeds or one.cell.seed in seeds)
        and (not families or one.cell.start.family in families)
    ]
    if not chosen:
        raise UserError(
            f"The study {study.name} has no such cell.", f"See `vlm4vla study list {study.name}`."
        )
    return chosen


def _check_there(
    study: Study, what: str, asked: Sequence[object] | None, there: Iterable[object]
) -> None:
    known = dict.fromkeys(there)
    if unknown := [one for one in asked or () if one not in known]:
        raise UserError(
            f"The study {study.name} has no {what} {unknown[0]!r}.",
            f"It has {', '.join(map(str, known))}.",
        )


def _write(args: argparse.Namespace) -> _Answer:
    """Writes the full-size runs."""
    if args.out is None:
        raise UserError("The scripts need a folder.", "Name one with --out.")
    if args.data or args.cores or args.resume:
        raise UserError(
            "--data, --cores and --resume are for runs on this machine.",
            "Leave them out: the scripts read DATA and RUNS.",
        )
    study = studies(PAPER)[args.name]
    chosen = select(study, args.cells, args.seeds, args.families)
    cluster.write(study.name, chosen, args.out)
    return {
        "study": study.name,
        "cells": [{"name": one.cell.name, "label": one.label} for one in chosen],
        "folder": str(args.out),
    }, [f"{len(chosen)} cells in {args.out}: sbatch array.sh, or a script below cells each"]


def _report(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    chosen = [STUDIES[args.name]] if args.name else list(STUDIES.values())
    found = report.reports(table, chosen)
    answer = {"studies": [report.to_json(one) for one in found]}
    lines = [line for one in found for line in report.lines(one)]
    if not args.name:
        told = predictor.predictions(found)
        answer["predictors"] = [predictor.to_json(one) for one in told]
        lines.append(f"predictors: {predictor.QUESTION}")
        lines += [f"  {one.sentence()}" for one in told if one.concept == NAMED]
    return answer, lines


def _measure(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    wanted = [one for one in _named(args) if measured(one.cell) is None]
    for member in wanted if args.cells else ():
        _check_measurable(table, member)
    wanted = [one for one in wanted if to_measure(table, one.cell)]
    if wanted:
        # They take seconds: torch.
        from vlm4vla.studies.measuring import measure
        from vlm4vla.studies.views import views
    for place, member in enumerate(wanted, 1):
        cell = member.cell

        def tell(line: str, place: int = place, name: str = cell.name) -> None:
            _tell(f"[{place}/{len(wanted)}] {name}: {line}")

        command = shlex.join(["vlm4vla", *measure_command(cell)])
        measure(cell, views(cell.tasks, tell), command, tell)
    answer, lines = [], []
    for member in _named(args):
        if (found := measured(member.cell)) is not None:
            answer.append({"name": member.cell.name, "label": member.label, **found.to_json()})
            lines.append(f"{member.cell.name}  {member.label}: {'; '.join(found.sentences())}")
    return {"cells": answer}, lines or [
        "No cell is measured: none is evaluated whose policy is here."
    ]


def _named(args: argparse.Namespace) -> list[Member]:
    """The cells of one study or of all, each once."""
    if args.name:
        return select(STUDIES[args.name], args.cells)
    every = {one.cell.name: one for study in STUDIES.values() for one in study.members}
    if unknown := sorted(set(args.cells or ()) - set(every)):
        raise UserError(
            f"No study has a cell {unknown[0]!r}.", "`vlm4vla study list STUDY` lists them."
        )
    return [one for name, one in every.items() if not args.cells or name in args.cells]


def _check_measurable(table: EpisodeTable, member: Member) -> None:
    cell = member.cell
    if not done(table, cell):
        raise UserError(
            f"{member.label} has {len(episodes_of(table, cell).rows)} of {cell.expected} "
            "episodes, and a cell is measured after its evaluation.",
            "`vlm4vla study run` goes on with it.",
        )
    if not checkpoint_of(cell).is_dir():
        raise UserError(
            f"The policy of {member.label} is not in {checkpoint_of(cell)}.",
            "Measure the cell where it was trained.",
        )


def _verify(table: EpisodeTable, args: argparse.Namespace) -> _Answer:
    _check_cores([args.core])
    [member, *others] = select(STUDIES[args.name], [args.cell])
    if others:
        raise UserError(
            f"{args.cell!r} is a level of several cells.",
            f"Name one of them: {', '.join(one.cell.name for one in (member, *others))}.",
        )
    data = args.data or _frames()
    _check([member], data)

    def command(words: Sequence[str]) -> int:
        argv = pinned.argv(args.core, CLI, words)
        # Standard output is the verdict's alone.
        return subprocess.run(argv, env=dict(pinned.environment()), stdout=sys.stderr).returncode

    verdict = verify(table, member.cell, member.label, data, command)
    if not verdict.verified:
        raise UserError(f"{member.label} is not what the table says. {verdict.sentence()}")
    tasks = {
        name: {"then": task.then._asdict(), "now": task.now._asdict()}
        for name, task in verdict.tasks.items()
    }
    answer = {"cell": member.cell.name, "same": verdict.same, "n": verdict.n, "tasks": tasks}
    return answer, [f"{member.label}: {verdict.sentence()}"]


def _check_cores(cores: Sequence[int]) -> None:
    if wrong := sorted(set(cores) - set(_CORES)):
        raise UserError(
            f"There is no core {wrong[0]} for this.", f"There are {', '.join(map(str, _CORES))}."
        )


def _check_begun(members: Sequence[Member], resume: bool) -> None:
    started = [member for member in members if begun(member.cell)]
    if started and not resume:
        raise UserError(
            f"{len(started)} of these cells were begun before, such as {started[0].label}.",
            "Add --resume to go on with them.",
        )


def _check(members: Sequence[Member], data: Path) -> None:
    """Refuses before hours of work what could be known before."""
    if not data.is_dir():
        raise UserError(
            f"There is no training cache {data}.",
            "Record the data with `vlm4vla collect` and `vlm4vla cache`, as docs/studies.md says, "
            "and name it with --data.",
        )
    cache = open_cache(data)
    found, asked = cache.fingerprint, cache.asked
    for member in members:
        member.cell.start.check()
        if not same_data(found, asked, member.cell.data):
            raise UserError(
                f"{data} holds other episodes, or some of other versions of the simulator's "
                f"packages (its frames are {found[:12]}), than the study was declared on "
                f"({member.cell.data[:12]}).",
                "Record them as docs/studies.md says.",
            )
    if any(member.cell.data != found for member in members):
        _tell(
            f"{data} holds the episodes that the study was declared on with other frames "
            f"({found[:12]}), as another kind of machine gives them; each cell's account says so."
        )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _frames() -> Path:
    return paths.home() / "cache" / "frames"


_ACTIONS: Final = {
    "list": _list,
    "run": _run,
    "measure": _measure,
    "report": _report,
    "verify": _verify,
}
