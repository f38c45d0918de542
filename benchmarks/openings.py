"""Seconds from an address to the frame that paints what is to be seen first, over many episodes.

    python -m benchmarks.openings [--episodes 100000] [--home FOLDER]

The table holds the shipped results, and copies of them under other agents' names where more
episodes are asked for; a data folder that is given is kept and used again. Each page is opened by
Chromium on this machine, its cache empty and then as the second page of a visit. The first opening
of either kind after the app's start is told apart; of the others the median.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from assets.pictures import app
from benchmarks.app import ARGUMENTS
from benchmarks.failures import BATCH, entries
from vlm4vla import paths
from vlm4vla.episodes.parquet import import_shipped
from vlm4vla.episodes.start import SHIPPED
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.labelling import label_missing
from vlm4vla.system import chromium

OPENINGS = 6
WARM_S = 30.0
PAUSE_S = 4.0
"""Between openings, so that what an earlier one asked for is answered."""

FIRST_SEEN = {
    "failures": ".failures[data-shown] .fl-wall [role=listitem]",
    "failures?kind=all&agent=all&condition=all": ".failures[data-shown] .fl-wall [role=listitem]",
    "compare": "#compare .cp-card",
    "ablations": "#ablation .ab-matrix",
    "inspect": "#inspect-choice li",
    "encoders": "#encoder-curves .js-plotly-plot .main-svg",
}

WATCH = """(() => {
    const look = () => requestAnimationFrame(() => {
        const found = [...document.querySelectorAll(%s)].some((one) => one.getClientRects().length);
        if (found) requestAnimationFrame(() => (window.seen_at = performance.now()));
        else look();
    });
    look();
})()"""


def fill(table: EpisodeTable, number: int) -> None:
    """Puts the shipped results into a table, then copies of them until it holds so many."""
    import_shipped(table, SHIPPED)
    if (missing := number - table.count()) > 0:
        own = list(table.entries())
        left = islice(entries(own), len(own), len(own) + missing)
        while some := list(islice(left, BATCH)):
            table.put_all(some)
    label_missing(table)


def opened(browser: Any, address: str, page: str, earlier: str | None) -> float:
    """Seconds until a page is seen, in a browser that has seen only the earlier one."""
    time.sleep(PAUSE_S)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        tab = context.new_page()
        if earlier is not None:
            tab.goto(address + earlier)
            time.sleep(PAUSE_S)
        tab.add_init_script(WATCH % json.dumps(FIRST_SEEN[page]))
        tab.goto(address + page, wait_until="commit")
        tab.wait_for_function("window.seen_at", timeout=60_000)
        return float(tab.evaluate("window.seen_at")) / 1e3
    finally:
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=0, help="at least so many")
    parser.add_argument("--home", type=Path, help="a data folder (a local disk)")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name:
        os.environ["VLM4VLA_HOME"] = str(args.home or name)
        table = EpisodeTable(paths.local() / "table")
        fill(table, args.episodes)
        print(f"{table.count():,} episodes")
        with app(args.home or Path(name)) as address, sync_playwright() as playwright:
            # It warms a simulator and reads a policy; nobody's first page waits for that here.
            time.sleep(WARM_S)
            browser = playwright.chromium.launch(
                executable_path=chromium.executable() or None, args=ARGUMENTS
            )
            for page in FIRST_SEEN:
                for earlier in (None, "about"):
                    first, *others = [
                        opened(browser, address, page, earlier) for _ in range(OPENINGS)
                    ]
                    print(
                        f"/{page}, {'cache empty' if earlier is None else 'from another page'}: "
                        f"{statistics.median(others):.2f} s (first {first:.2f}, "
                        f"longest {max(others):.2f})"
                    )
            browser.close()


if __name__ == "__main__":
    main()
