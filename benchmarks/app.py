"""How long a visitor waits, how many frames a second the browser paints, and how fast it scrubs.

    python benchmarks/app.py [--runs 3]

Starts `app.py` and drives it with Chromium on this machine, first over the loopback as it is, then
with 100 ms from request to response at 10 Mbit/s. A frame counts when the canvas has changed.
Medians. Then the last episode is dragged over on the Inspect page, under its maps: how long each
paint takes, of which a screen of 60 pictures a second allows 17 ms.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vlm4vla.system import chromium

ROOT = Path(__file__).resolve().parents[1]
LIVE = ".live-view[data-ready]"
VIEWER = ".inspect-view[data-run]"
SENTENCES = ("put the yellow ball in the red bowl", "put the purple ball in the green bowl")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SLOW_LINK = {
    "offline": False,
    "latency": 100,
    "downloadThroughput": 1.25e6,
    "uploadThroughput": 1e6,
}

WATCH = """live => {
    window.painted_at = [];
    window.observer?.disconnect();
    window.observer = new MutationObserver(() => window.painted_at.push(performance.now()));
    window.observer.observe(document.querySelector(live), { attributeFilter: ['data-painted'] });
    document.querySelector('#run').addEventListener(
        'click', () => (window.clicked_at = performance.now()), { capture: true, once: true });
}"""

PAINTS = """viewer => {
    const shown = document.querySelector(viewer);
    window.paints = [];
    new MutationObserver(() => window.paints.push(Number(shown.dataset.painted)))
        .observe(shown, { attributeFilter: ['data-painted'] });
}"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(page: Any, sentence: str) -> tuple[float, float]:
    """Milliseconds from the click to the first frame, and painted frames a second after it."""
    page.evaluate(WATCH, LIVE)
    page.fill("#instruction textarea", sentence)
    page.click("#run")
    page.wait_for_function(f"document.querySelector('{LIVE}').dataset.phase === 'live'")
    page.wait_for_function(f"document.querySelector('{LIVE}').dataset.phase !== 'live'")
    times = page.evaluate("window.painted_at.map(time => time - window.clicked_at)")
    return times[0], 1e3 * (len(times) - 1) / (times[-1] - times[0])


def scrub(page: Any, address: str, run: str) -> list[float]:
    """Milliseconds of each paint while an episode is dragged over to its end and back."""
    page.goto(f"{address}inspect?run={run}")
    page.wait_for_selector(f"{VIEWER}[data-frames][data-shown$='occlusion']")
    page.wait_for_selector("#inspect-status .is:empty", state="attached")
    page.evaluate("document.querySelector('.iv-lanes').scrollIntoView({block: 'center'})")
    page.evaluate(PAINTS, VIEWER)
    box = page.locator(".iv-lanes").bounding_box()
    left, right, y = round(box["x"]) + 130, round(box["x"] + box["width"]) - 14, box["y"] + 30
    page.mouse.move(left, y)
    page.mouse.down()
    for x in (*range(left, right, 4), *range(right, left, -4)):
        page.mouse.move(x, y)
    page.mouse.up()
    return list(page.evaluate("window.paints"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="episodes of each kind")
    runs = parser.parse_args().runs
    from playwright.sync_api import sync_playwright

    port = free_port()
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        next(line for line in server.stdout if "http://" in line)
        served = time.perf_counter() - began
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium.executable() or None, args=ARGUMENTS
            )
            page = browser.new_page()
            page.set_default_timeout(240_000)
            page.goto(f"http://127.0.0.1:{port}/")
            page.wait_for_selector(LIVE)
            page.wait_for_function("document.querySelector('.lv-note').innerText.includes('live')")
            ready = time.perf_counter() - began
            print(f"start: page served after {served:.1f} s, simulator warm after {ready:.1f} s")
            for name in ("local", "100 ms latency"):
                if name != "local":
                    page.context.new_cdp_session(page).send(
                        "Network.emulateNetworkConditions", SLOW_LINK
                    )
                found = [measure(page, SENTENCES[run % 2]) for run in range(runs)]
                first = statistics.median(item[0] for item in found)
                rate = statistics.median(item[1] for item in found)
                print(f"{name}: first frame {first:.0f} ms after the click, {rate:.1f} frames/s")
            run = str(page.get_attribute(".result-card[data-run]", "data-run"))
            page = browser.new_page()
            page.set_default_timeout(240_000)
            paints = scrub(page, f"http://127.0.0.1:{port}/", run)
            late, middle = sum(paint > 17 for paint in paints), statistics.median(paints)
            print(
                f"scrubbing under maps: {len(paints)} paints of {middle:.1f} ms, at most "
                f"{max(paints):.1f} ms; {late} took more than 17 ms"
            )
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
