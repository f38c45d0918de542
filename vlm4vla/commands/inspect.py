"""`vlm4vla inspect ID`: why an episode went as it did: diagnosis, lanes, maps, one page of it."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.core.environment import Environment
from vlm4vla.core.episode import Episode
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.start import SHIPPED, prepare
from vlm4vla.errors import UserError
from vlm4vla.files import replacing
from vlm4vla.inspection.bundle import Bundle, completed, started
from vlm4vla.inspection.export import files_of, told
from vlm4vla.inspection.kinds import METHODS, TARGETS, MapKind
from vlm4vla.inspection.payload import headline
from vlm4vla.inspection.shelf import Bundles
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentProcess


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("id", help="a stored episode: sixteen hexadecimal digits")
    parser.add_argument("--out", type=Path, help="folder for arrays, pictures and maps")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="one self-contained page that scrubs offline"
    )
    parser.add_argument(
        "--target", choices=TARGETS, default="displacement", help="what the maps explain"
    )
    parser.add_argument(
        "--method", choices=METHODS, default="occlusion", help="what the maps are made by"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, last")


def run(args: argparse.Namespace) -> int:
    """Prints the diagnosis; pictures and maps are made if there is something to write them to."""
    bundles = Bundles()
    bundle = started(_stored(args.id), bundles, MapKind(args.target, args.method))
    if args.out or args.html:
        for further in completed(bundle, bundles, AgentCatalogue(), _simulator):
            bundle = further
            print(f"\r{_progress(bundle)}\033[K", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    for lack in bundle.missing:
        print(f"inspect: {lack}", file=sys.stderr)
    files = files_of(bundle, page=args.html is not None) if args.out or args.html else {}
    if args.html:
        _write(args.html, files.pop("index.html"))
    if args.out:
        for name, content in files.items():
            _write(args.out / name, content)
    print(json.dumps(told(bundle), ensure_ascii=False) if args.json else headline(bundle))
    return 0


def _stored(key: str) -> Episode:
    archive = Archive.open()
    try:
        return archive.table.get(key)
    except UserError:
        # The episodes that are shipped are brought into the table when they are first wanted.
        prepare(archive.table, archive.films, shipped=SHIPPED)
        return archive.table.get(key)


@contextlib.contextmanager
def _simulator() -> Iterator[Environment]:
    environment = EnvironmentProcess(TABLETOP)
    try:
        yield environment
    finally:
        environment.close()


def _progress(bundle: Bundle) -> str:
    if not bundle.drawn:
        return f"pictures: {len(bundle.pictures)} of {bundle.episode.steps + 1}"
    return f"inferences: {len(bundle.explanations)} of {bundle.inferences}"


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
