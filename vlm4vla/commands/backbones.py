"""`vlm4vla backbones [PATTERN]`: every VLM that can be named, without loading any."""

import argparse
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from vlm4vla import paths
from vlm4vla.model import families as _families  # noqa: F401  (registers them)
from vlm4vla.model.family import FAMILIES


class Backbone(NamedTuple):
    """One line of the list.

    Attributes:
        name: what to type.
        family: its family.
        kind: "preset", "hub" or "local".
        billions: parameters in billions; None where it is not known without loading.
        note: what the name stands for.
    """

    name: str
    family: str
    kind: str
    billions: float | None
    note: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, as in 'qwen*'")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the list; 1 if nothing matches."""
    found = [b for b in backbones() if _matches(b, args.pattern)]
    if args.json:
        print(json.dumps([backbone._asdict() for backbone in found]))
    else:
        for name, family, kind, billions, note in found:
            size = f"{billions:.2f} B" if billions else ""
            print(f"{name:<46}{family:<17}{kind:<8}{size:>9}  {note}".rstrip())
    return 0 if found else 1


def _matches(backbone: Backbone, pattern: str) -> bool:
    names = (backbone.name, backbone.family, backbone.name.rpartition("/")[2])
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names)


def backbones() -> Iterator[Backbone]:
    """Presets, known Hub ids and local folders, family by family."""
    for family in map(FAMILIES.get, sorted(FAMILIES)):
        tiny = "random weights, its own small tokenizer"
        yield Backbone(f"{family.name}:tiny", family.name, "preset", None, tiny)
        if family.paper:
            size = family.hub[family.paper]
            yield Backbone(f"{family.name}:paper", family.name, "preset", size, family.paper)
        for name, billions in family.hub.items():
            yield Backbone(name, family.name, "hub", billions, "")
    for root in (Path("checkpoints"), paths.home() / "checkpoints"):
        for config in sorted(root.glob("*/config.json")):
            policy = (config.parent / "policy.json").is_file()
            note = "a policy; its VLM can start another" if policy else "a VLM"
            kind = json.loads(config.read_text("utf-8")).get("model_type", "?")
            yield Backbone(str(config.parent), kind, "local", None, note)
