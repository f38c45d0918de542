"""`vlm4vla doctor`: one line a check, each failure with its fix.

Exit code 1 if the main job (simulate, and render live) cannot run, else 0; a warning alone does
not count. Where only recordings can be played the code is 1, too.
"""

import argparse
import json
import sys
from dataclasses import asdict

from vlm4vla.system.doctor import Check, repairs, run_checks

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--fix", action="store_true", help="carry out the fixes that are safe")


def run(args: argparse.Namespace) -> int:
    """Checks, repairs if asked to, and prints what stands at the end."""
    checks = run_checks()
    if args.fix and (wanted := repairs(checks)):
        for name, repair in wanted.items():
            print(f"fixing: {name}", file=sys.stderr, flush=True)
            repair()
        checks = run_checks()
    ready = all(check.status != "fail" for check in checks)
    if args.json:
        print(json.dumps({"ok": ready, "checks": [asdict(check) for check in checks]}))
    else:
        _print_table(checks, ready)
    return 0 if ready else 1


def _print_table(checks: list[Check], ready: bool) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{_MARKS[check.status]}  {check.name:<{width}}  {check.detail}")
        if check.fix:
            print(f"{'':{width + 6}}  fix: {check.fix}")
    print("ready" if ready else "not ready: the simulator cannot run and render live here")
