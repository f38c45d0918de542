"""For everybody: by keyboard alone, in light and dark, on a narrow screen, over a slow link."""

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.pages.conftest import LIVE, PATIENCE, Served, wait_for_phase

LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": "dark",
        "has_touch": True,
    },
}

SLOW_LINK = {
    "offline": False,
    "latency": 100,
    "downloadThroughput": 1.25e6,
    "uploadThroughput": 1e6,
}


@pytest.fixture(params=LOOKS)
def looked(request: Any, browser: Any, served: Served) -> Iterator[Any]:
    """The Run page in one look, the simulator ready."""
    context = browser.new_context(**LOOKS[request.param])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    ready(page, served.url)
    yield page
    context.close()


def ready(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(LIVE)
    page.wait_for_function("document.querySelector('.lv-note')?.innerText.includes('live')")


def serious_findings(page: Any) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{item['id']}: {node['target']} {node['html'][:200]}"
        for item in found
        if item["impact"] in ("serious", "critical")
        for node in item["nodes"]
    ]


def brightness(page: Any) -> int:
    """Of the page's background: 0 to 765."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[4:-1].split(","))


def test_no_serious_finding_and_nothing_too_wide_in_any_state(looked: Any) -> None:
    def check() -> None:
        if looked.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"):
            assert brightness(looked) < 200
        else:
            assert brightness(looked) > 600
        assert serious_findings(looked) == []
        assert looked.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    check()
    looked.fill("#instruction textarea", "zarf the yellow ball")
    looked.click("#run")
    looked.wait_for_selector("#proposal")
    looked.click("#settings button")
    looked.wait_for_selector("#execute")
    check()
    looked.locator("#chips button").first.click()
    looked.wait_for_selector(".result-card[data-run]")
    check()
    looked.goto(looked.url.split("?")[0] + "about")
    looked.wait_for_selector("#machine >> text=test render", state="attached")
    looked.click("#machine summary")
    check()


def test_sentence_run_and_picture_share_a_narrow_screen(browser: Any, served: Served) -> None:
    context = browser.new_context(**LOOKS["narrow"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    ready(page, served.url)
    for part in ("#instruction", "#run", "#live .lv-picture"):
        box = page.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 844, part
    # Pressing Run, or a suggestion further down, brings picture and verdict into sight.
    for button in (page.locator("#run"), page.locator("#chips button").last):
        button.tap()
        page.wait_for_selector(".result-card[data-run]", state="detached")
        wait_for_phase(page, "success")
        page.wait_for_function(
            "document.querySelector('.lv-view').getBoundingClientRect().top > -2"
        )
        page.wait_for_function(
            "document.querySelector('.lv-note').getBoundingClientRect().bottom < innerHeight + 1"
        )
        # The card comes next, before the settings.
        page.wait_for_selector(".result-card[data-run]")
        heights = {
            part: page.locator(part).bounding_box()["y"] + page.evaluate("scrollY")
            for part in ("#result", "#switches", "#chips", "#task")
        }
        assert heights["#result"] < 1_250
        assert min(heights, key=lambda part: heights[part]) == "#result"
    context.close()


def tab_to(page: Any, selector: str, *, back: bool = False) -> None:
    for _ in range(80):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"no Tab leads to {selector}")


def test_everything_can_be_done_by_keyboard_alone(run_page: Any) -> None:
    tab_to(run_page, "#instruction textarea")
    run_page.keyboard.press("Control+a")
    run_page.keyboard.type("put the yellow ball in the red bowl")
    run_page.keyboard.press("Enter")
    wait_for_phase(run_page, "success")
    run_page.wait_for_selector(".result-card[data-run]")
    # A suggestion, and Stop while it runs.
    tab_to(run_page, "#chips button")
    run_page.keyboard.press("Enter")
    wait_for_phase(run_page, "live")
    tab_to(run_page, "#stop", back=True)
    run_page.keyboard.press("Enter")
    wait_for_phase(run_page, "stopped", "success")
    # Another kind of scene, another scene, and the folded settings.
    tab_to(run_page, "#task input")
    run_page.keyboard.press("ArrowDown")
    run_page.keyboard.press("ArrowDown")
    run_page.keyboard.press("Enter")
    wait_for_phase(run_page, "still")
    before = run_page.input_value("#seed input")
    tab_to(run_page, "#new-scene")
    run_page.keyboard.press("Space")
    run_page.wait_for_function(
        "before => document.querySelector('#seed input').value !== before", arg=before
    )
    tab_to(run_page, "#settings button")
    run_page.keyboard.press("Enter")
    tab_to(run_page, "#execute input")
    run_page.keyboard.press("Tab")
    run_page.keyboard.press("Space")
    run_page.wait_for_function("document.querySelectorAll('#execute input')[1].checked")
    # The focus can be seen wherever it is.
    tab_to(run_page, "#run", back=True)
    outline = run_page.evaluate(
        "(({outlineStyle, boxShadow}) => [outlineStyle, boxShadow])"
        "(getComputedStyle(document.activeElement))"
    )
    assert outline != ["none", "none"]


def test_a_slow_link_paints_the_steps_as_they_come(run_page: Any) -> None:
    run_page.context.new_cdp_session(run_page).send("Network.emulateNetworkConditions", SLOW_LINK)
    before = int(run_page.get_attribute(LIVE, "data-painted"))
    run_page.fill("#instruction textarea", "put the purple ball in the green bowl")
    run_page.click("#run")
    wait_for_phase(run_page, "success")
    steps = int(run_page.get_attribute(LIVE, "data-step"))
    painted = int(run_page.get_attribute(LIVE, "data-painted")) - before
    # `gr.Image` painted 1 frame of 120 over such a link.
    assert painted >= 0.7 * steps


def test_back_and_forward_show_what_was_there(run_page: Any, served: Served) -> None:
    run_page.locator("#chips button").nth(1).click()
    run_page.wait_for_selector(".result-card[data-run]")
    run_id = run_page.get_attribute(".result-card[data-run]", "data-run")
    assert run_page.url == f"{served.url}?run={run_id}"
    run_page.click("nav >> text=About")
    run_page.wait_for_selector("#machine")
    run_page.go_back()
    run_page.wait_for_selector(f".result-card[data-run='{run_id}']")
    wait_for_phase(run_page, "recording")
    run_page.go_forward()
    run_page.wait_for_selector("#machine")
    run_page.go_back()
    run_page.wait_for_selector(f".result-card[data-run='{run_id}']")
    # Another scene is another state: its address does not name the old episode.
    run_page.click("#new-scene")
    wait_for_phase(run_page, "still")
    assert "run=" not in run_page.url
    assert not run_page.is_visible(".result-card .rc")
