"""`vlm4vla backbones [PATTERN]`: every VLM that can be named, without loading any."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from vlm4vla import paths
from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.agents.facts import Facts, facts, share, size
from vlm4vla.episodes.rates import evaluated
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.model import families as _families  # noqa: F401  (registers them)
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.family import FAMILIES, family_of
from vlm4vla.model.size import stored_parameters
from vlm4vla.statistics import Rate


class Backbone(NamedTuple):
    """One line of the list.

    Attributes:
        name: what to type.
        family: its family.
        kind: "preset", "hub" or "local".
        billions: parameters in billions; None where it is not known without loading.
        note: what the name stands for.
        about: of a local folder, what it says of itself.
    """

    name: str
    family: str
    kind: str
    billions: float | None
    note: str
    about: Facts = Facts()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, as in 'qwen*'")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the list; 1 if nothing matches."""
    found = [b for b in backbones() if _matches(b, args.pattern)]
    if args.json:
        print(json.dumps([_plain(backbone) for backbone in found]))
    else:
        for backbone in found:
            print("\n".join(_lines(backbone)))
    return 0 if found else 1


def _matches(backbone: Backbone, pattern: str) -> bool:
    names = (backbone.name, backbone.family, backbone.name.rpartition("/")[2])
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names)


def _lines(backbone: Backbone) -> list[str]:
    """A line, and for what was trained here one more for each thing that is known of it."""
    name, family, kind, billions, note, about = backbone
    told = f"{billions:.2f} B" if billions else ""
    if kind == "local" and billions:
        told = size(round(1e9 * billions))
    lines = [f"{name:<46}{family:<17}{kind:<8}{told:>9}  {note}".rstrip()]
    if about.overall:
        tasks = ", ".join(
            f"{task} {rate.successes} of {rate.n}" for task, rate in about.success.items()
        )
        lines += [f"    success: {share(about.overall)} over all tasks; {tasks}"]
    elif about.policy:
        lines += ["    success: not measured"]
    if about.skill:
        answers = (
            f"{kind} {100 * one.share:.0f} %" + (f" of {one.n}" if one.n else "")
            for kind, one in about.skill.items()
        )
        when = " before robot frames" if about.policy else ""
        lines += [f"    general skill{when}: {', '.join(answers)}"]
    if about.trained_on:
        lines += [f"    trained on: {about.trained_on}"]
    return lines


def _plain(backbone: Backbone) -> dict[str, Any]:
    about = backbone.about
    plain = backbone._asdict()
    del plain["about"]
    return {
        **plain,
        "policy": about.policy,
        "parameters": about.parameters,
        "trained_on": about.trained_on,
        "skill": {kind: {"share": one.share, "n": one.n} for kind, one in about.skill.items()},
        "success": about.overall
        and {
            **_rate(about.overall),
            "tasks": {task: _rate(rate) for task, rate in about.success.items()},
        },
    }


def _rate(rate: Rate) -> dict[str, Any]:
    interval = [round(rate.low, 4), round(rate.high, 4)]
    return {"n": rate.n, "successes": rate.successes, "rate": rate.rate, "ci95": interval}


def backbones() -> Iterator[Backbone]:
    """Presets, known Hub ids and local folders, family by family."""
    trained = {_family(config.parent) for config in SHIPPED.rglob("config.json")}
    for family in map(FAMILIES.get, sorted(FAMILIES)):
        tiny = "random weights, its own small tokenizer"
        if family.name not in trained:
            tiny += "; recipe runs, not trained"
        yield Backbone(f"{family.name}:tiny", family.name, "preset", None, tiny)
        if family.paper:
            large = family.hub[family.paper]
            yield Backbone(f"{family.name}:paper", family.name, "preset", large, family.paper)
        for name, billions in family.hub.items():
            yield Backbone(name, family.name, "hub", billions, "")
    known = set()
    for root in (Path("checkpoints"), SHIPPED, paths.home() / "checkpoints"):
        # A VLM's folder may hold those of other families, as the shipped one does.
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            if (real := config.resolve()) not in known:
                known.add(real)
                yield _local(config.parent)


def _local(folder: Path) -> Backbone:
    about = facts(folder)
    if about.policy and not about.success:
        about = replace(about, success=_evaluated_here(folder))
    note = "a policy; its VLM can start another" if about.policy else "a VLM"
    family = about.family or _family(folder)
    parameters = about.parameters or stored_parameters(folder)
    return Backbone(
        str(folder),
        family,
        "local",
        parameters / 1e9 if parameters else None,
        note,
        replace(about, parameters=parameters),
    )


def _evaluated_here(folder: Path) -> dict[str, Rate]:
    try:
        return evaluated(EpisodeTable(), checkpoint_hash(folder))
    except UserError:  # a damaged checkpoint or table is listed, too
        return {}


def _family(folder: Path) -> str:
    """By the model type of its configuration, where it does not name its family."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        text = SimpleNamespace(model_type=config.get("text_config", {}).get("model_type"))
        kind = str(config.get("model_type", "?"))
    except (ValueError, AttributeError):
        return "?"
    family = family_of(SimpleNamespace(model_type=kind, text_config=text))
    return family.name if family else kind
