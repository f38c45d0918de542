"""`vlm4vla probe MODEL`: the parts of a VLM, and proof that its adaptation is sound."""

import argparse
import json

from vlm4vla.model.conformance import Check, Report, probe
from vlm4vla.model.load import load_vlm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="FAMILY:tiny, FAMILY:paper, a Hub id, or a folder")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 if a check failed."""
    report = probe(load_vlm(args.model))
    print(json.dumps(report.to_json()) if args.json else render(report))
    return 0 if report.passed else 1


def render(report: Report) -> str:
    """The report as lines for a terminal."""
    parts = dict(report.parts)
    sizes = parts.pop("parameters")
    start, end = parts.pop("image tokens")
    parts["image tokens"] = f"{end - start}, from {start} to {end - 1} of the prompt"
    parts["embeddings"] = " x ".join(map(str, parts["embeddings"]))
    parts["new parameters"] = f"{parts['new parameters']:,}"
    parts["share of new parameters"] = f"{parts['share of new parameters']:.2%}"
    lines = [f"{report.model} ({report.family})", ""]
    lines += [f"  {name:<24}{value}" for name, value in parts.items()]
    lines += ["", "  parameters"]
    lines += [f"    {group:<22}{size:>15,}" for group, size in sizes.items()]
    lines += [""]
    lines += [
        f"  {_verdict(check)}  {check.name:<18}{check.value:>10.3g}  {check.limit:<12}{check.claim}"
        for check in report.checks
    ]
    compared = [check for check in report.checks if check.compared]
    told = f"{sum(check.passed for check in compared)} of {len(compared)} checks passed"
    if left := [check.name for check in report.checks if not check.compared]:
        told += f"; nothing to compare with: {', '.join(left)}"
    return "\n".join([*lines, "", told])


def _verdict(check: Check) -> str:
    if not check.compared:
        return "none"
    return "pass" if check.passed else "FAIL"
