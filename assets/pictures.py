"""Takes a picture of the app in every state, in light, dark and on a narrow screen.

    python assets/pictures.py [--out build/pictures] [--looks light dark narrow]

Needs what `make test` sets up. Those that the README shows are copied beside this file.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vlm4vla.system import chromium, vulkan

ROOT = Path(__file__).resolve().parents[1]
LIVE = ".live-view[data-ready]"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 1000}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
IN_README = (
    "light-running", "dark-success", "narrow-success", "light-inspect", "light-compare",
    "light-failures", "light-ablations", "light-encoders",
)  # fmt: skip
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
PATIENCE = 300_000


@contextlib.contextmanager
def app(home: Path, **environment: str) -> Iterator[str]:
    """`app.py` with a data folder of its own; gives the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"HOST": "127.0.0.1", "PORT": port, "VLM4VLA_HOME": str(home), **environment}
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if "http://" in line)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(page: Any, *phases: str) -> None:
    page.wait_for_function(
        "([live, phases]) => phases.includes(document.querySelector(live)?.dataset.phase)",
        arg=[LIVE, list(phases)],
    )


def open_at(page: Any, address: str, query: str = "") -> None:
    page.goto(address + query)
    page.wait_for_selector(LIVE)
    if query:
        wait_for(page, "still")
    else:
        page.wait_for_function("document.querySelector('.lv-note').innerText.includes('live')")


def first_sight(page: Any, address: str) -> None:
    open_at(page, address)
    page.wait_for_timeout(900)


def running(page: Any, address: str) -> None:
    open_at(page, address)
    page.locator("#chips button").first.click()
    wait_for(page, "live")
    page.wait_for_function(f"document.querySelector('{LIVE}').dataset.step >= 18")


def success(page: Any, address: str) -> None:
    open_at(page, address)
    # The opening recording says it of this one, and the same order ends the same way.
    page.locator("#chips button").first.click()
    page.wait_for_selector(".result-card[data-run]")
    page.wait_for_timeout(900)


def failure(page: Any, address: str) -> None:
    open_at(page, address, "?task=stack&seed=8")
    page.click("#settings button")
    page.fill("#most-steps input[type=number]", "17")
    page.locator("#chips button").first.click()
    page.wait_for_selector(".result-card[data-run]")
    page.wait_for_timeout(900)


def unknown_words(page: Any, address: str) -> None:
    open_at(page, address)
    page.fill("#instruction textarea", "kindly throw the yellow ball at the red bowl")
    page.click("#run")
    page.wait_for_selector("#proposal")


def queue(page: Any, address: str) -> None:
    # Each visitor has a browser window of their own: windows behind others are slowed down.
    contexts = [page.context.browser.new_context() for _ in range(4)]
    others = [context.new_page() for context in contexts]
    for visitor in (*others, page):
        visitor.set_default_timeout(PATIENCE)
        open_at(visitor, address)
    waited = f"document.querySelector('{LIVE}').dataset.phase === 'waiting'"
    while not page.evaluate(waited):
        for visitor in (*others, page):
            visitor.locator("#chips button").first.click()
        # Episodes are short: who presses last may find a place free after all.
        page.wait_for_function(f"{waited} || document.querySelector('.result-card[data-run]')")
    for context in contexts:
        context.close()


def about(page: Any, address: str) -> None:
    page.goto(address + "about")
    page.wait_for_selector("#machine >> text=test render", state="attached")


def _when_labelled(page: Any, address: str) -> None:
    """The Failures page, once the shipped episodes are in the table and have their labels."""
    page.goto(address + "failures")
    while True:
        page.wait_for_selector(".failures[data-shown]")
        page.wait_for_timeout(3000)
        if page.locator(".failures .ec-link").count() and "looked at" not in page.inner_text(
            "body"
        ):
            return
        page.reload()


def failures(page: Any, address: str) -> None:
    _when_labelled(page, address)
    page.wait_for_timeout(900)


def inspect(page: Any, address: str) -> None:
    _when_labelled(page, address)
    page.goto(address.rstrip("/") + page.get_attribute(".failures .ec-link >> nth=0", "href"))
    page.wait_for_function(
        "document.querySelector('.inspect-view[data-run]') && "
        "!document.querySelector('#inspect-status')?.innerText.trim()"
    )
    page.wait_for_timeout(900)


def compare(page: Any, address: str) -> None:
    _when_labelled(page, address)
    page.goto(address + "compare")
    page.wait_for_selector("#compare .cp-card")
    page.wait_for_selector("#compare-plot .main-svg")
    page.evaluate("document.querySelector('#compare-answer').scrollIntoView()")
    page.wait_for_timeout(1500)


def ablations(page: Any, address: str) -> None:
    _when_labelled(page, address)
    page.goto(address + "ablations")
    page.wait_for_selector("#ablation .ab-matrix")
    page.wait_for_timeout(1500)


def encoders(page: Any, address: str) -> None:
    page.goto(address + "encoders")
    page.wait_for_selector("#encoder-curves .main-svg")
    page.wait_for_timeout(1500)


def no_renderer(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#banner >> text=Recordings only")
    page.wait_for_timeout(900)


STATES: tuple[Callable[[Any, str], None], ...] = (
    first_sight, running, success, failure, unknown_words, queue, about,
    inspect, compare, failures, ablations, encoders,
)  # fmt: skip


def take(browser: Any, looks: list[str], address: str, state: Any, out: Path) -> None:
    for look in looks:
        context = browser.new_context(**LOOKS[look])
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        state(page, address)
        name = f"{look}-{state.__name__.replace('_', '-')}"
        page.screenshot(path=out / f"{name}.png", full_page=state is about)
        print(name, flush=True)
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "pictures")
    parser.add_argument("--looks", nargs="+", choices=LOOKS, default=list(LOOKS))
    parser.add_argument("--states", nargs="+", help="only these, by name")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    def wanted(state: Any) -> bool:
        return not args.states or state.__name__ in args.states

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        if (driver := vulkan.private_folder()).exists():
            (home / "vulkan").symlink_to(driver)
        browser = playwright.chromium.launch(
            executable_path=chromium.executable() or None, args=ARGUMENTS
        )
        if any(map(wanted, STATES)):
            with app(home) as address:
                for state in filter(wanted, STATES):
                    take(browser, args.looks, address, state, args.out)
        if wanted(no_renderer):
            with app(home, VK_DRIVER_FILES=str(home / "no-driver.json")) as address:
                take(browser, args.looks, address, no_renderer, args.out)
        browser.close()
    for name in IN_README:
        if (args.out / f"{name}.png").is_file():
            shutil.copy(args.out / f"{name}.png", ROOT / "assets")


if __name__ == "__main__":
    main()
