"""The Inspect page in a browser: mouse, keyboard, touch, the address, and what is around it."""

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from tests.inspection.examples import POLICY, still_episode
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.core.condition import Perturbation
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Membership
from vlm4vla.live.branch import removable
from vlm4vla.suites.tabletop.changes import GONE

STEPS = 24
VIEWER = ".inspect-view[data-run]"
DRAWN = f".inspect-view[data-frames='{STEPS + 1}']"


@pytest.fixture(scope="module")
def run(data_folder: Path) -> str:
    """A failure of a policy whose checkpoint is nowhere: it wandered off, always the same way."""
    rows = np.tile([0.3, 0.3, 0, 0, 0, 0, 1.0], (STEPS, 1))
    episode = still_episode(rows, task="place", agent=POLICY)
    # The newest of all, whatever other tests have left in the same table.
    return Archive.open().table.put(episode, [Membership("live")], created=time.time() + 86_400)


@pytest.fixture(scope="module")
def url(data_folder: Path) -> Iterator[str]:
    with serve(FakeSimulators(), FakeCatalogue()) as address:
        yield address


@pytest.fixture
def inspected(page: Any, url: str, run: str) -> Any:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}inspect?run={run}")
    page.wait_for_selector(DRAWN)
    return page


def step_of(page: Any) -> int:
    return int(page.get_attribute(VIEWER, "data-step"))


def wait_for_step(page: Any, step: int) -> None:
    page.wait_for_selector(f".inspect-view[data-step='{step}']")


def asked(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_it_opens_with_what_went_wrong_and_a_reason_where_they_part(inspected: Any) -> None:
    said = inspected.inner_text(".iv-diagnosis")
    assert said.startswith(f"Never reached, step {STEPS}: It came no nearer to the ")
    assert " From the first step on" in said
    # A tick on the events lane, where time was up, too.
    assert inspected.locator(".iv-lanes .iv-wrong").count() == 1
    assert inspected.text_content(".iv-lanes .iv-part") == "▲ here they part"
    assert step_of(inspected) == 0
    # What is missing is named; the checkpoint is not here.
    assert POLICY.digest in inspected.inner_text(".iv-missing")


def test_keys_step_and_play_and_the_address_follows(inspected: Any) -> None:
    inspected.keyboard.press("ArrowRight")
    wait_for_step(inspected, 1)
    inspected.keyboard.press("Shift+ArrowRight")
    wait_for_step(inspected, 11)
    inspected.keyboard.press("ArrowLeft")
    wait_for_step(inspected, 10)
    inspected.wait_for_function("location.search.includes('t=10')")
    inspected.keyboard.press("Space")
    wait_for_step(inspected, STEPS)
    inspected.wait_for_function(f"location.search.includes('t={STEPS}')")
    # Who types does not scrub.
    inspected.click("#inspect-sentence textarea, #inspect-sentence input")
    inspected.keyboard.press("ArrowLeft")
    assert step_of(inspected) == STEPS


def test_an_address_opens_the_step_that_it_names(page: Any, url: str, run: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}inspect?run={run}&t=7")
    wait_for_step(page, 7)


def test_dragging_over_the_lanes_scrubs_without_network(inspected: Any) -> None:
    inspected.evaluate("document.querySelector('.iv-lanes').scrollIntoView({block: 'center'})")
    box = inspected.locator(".iv-lanes").bounding_box()
    requests: list[str] = []
    inspected.on("request", lambda request: requests.append(request.url))
    y = box["y"] + 30
    inspected.mouse.move(box["x"] + 200, y)
    inspected.mouse.down()
    seen = set()
    for x in range(200, int(box["width"]), 60):
        inspected.mouse.move(box["x"] + x, y)
        seen.add(step_of(inspected))
    inspected.mouse.up()
    assert len(seen) > 8
    assert requests == []


def test_the_expert_takes_over_and_its_way_is_drawn_over_this_one(inspected: Any, url: str) -> None:
    inspected.keyboard.press("ArrowRight")
    inspected.keyboard.press("ArrowRight")
    wait_for_step(inspected, 2)
    inspected.click("#inspect-expert")
    inspected.wait_for_selector(".inspect-view[data-ghost]:not([data-ghost=''])")
    branch = inspected.get_attribute(VIEWER, "data-ghost")
    stored = Archive.open().table.get(branch)
    assert stored.spec.branch_step == 2
    assert "Branch at step 2" in inspected.inner_text(".iv-paths")
    # The address brings both back.
    inspected.wait_for_function(f"location.search.includes('ghost={branch}')")
    inspected.reload()
    inspected.wait_for_selector(f".inspect-view[data-ghost='{branch}']")
    inspected.click("text=Open the branch")
    inspected.wait_for_selector(f".inspect-view[data-run='{branch}']")
    assert "branched off at step 2" in inspected.inner_text(".iv-facts")


def test_a_thing_is_taken_away_and_the_way_without_it_is_drawn(inspected: Any, run: str) -> None:
    parent = Archive.open().table.get(run)
    [*_, other] = [one for one in removable(parent.spec) if one not in parent.spec.goal.values()]
    inspected.keyboard.press("ArrowRight")
    wait_for_step(inspected, 1)
    for menu, choice in (("change", f"the {other} is gone"), ("agent", "expert")):
        inspected.click(f"#inspect-{menu} input")
        inspected.click(f"#inspect-{menu} [role=option]:has-text('{choice}')")
    inspected.click("#inspect-go")
    inspected.wait_for_selector(".inspect-view[data-ghost]:not([data-ghost=''])")
    stored = Archive.open().table.get(inspected.get_attribute(VIEWER, "data-ghost"))
    assert stored.spec.condition.perturbations == (Perturbation(GONE, {"name": other}, 1),)
    assert f"gone (name {other}) from step 1 on" in inspected.inner_text(".iv-paths")


def test_a_branch_that_changes_nothing_is_refused(inspected: Any) -> None:
    inspected.click("#inspect-go")
    inspected.wait_for_selector("#inspect-tools .message")
    assert "not here any more" in inspected.inner_text("#inspect-tools .message")


def test_everything_is_saved_as_one_file(inspected: Any) -> None:
    with inspected.expect_download() as found:
        inspected.click("#inspect-zip")
    content = Path(found.value.path()).read_bytes()
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert {"bundle.json", "lanes.npz", "index.html", "pictures/policy-000.png"} <= set(names)


def test_without_a_run_there_are_some_to_choose_from(page: Any, url: str, run: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}inspect")
    page.click(f"#inspect-choice a[href*='{run}']")
    page.wait_for_selector(f".inspect-view[data-run='{run}']")


def test_a_run_that_is_unknown_is_said_to_be(page: Any, url: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}inspect?run=ffffffffffffffff&t=x")
    page.wait_for_selector("#inspect-choice .message")
    assert "no such stored episode" in page.inner_text("#inspect-choice .message")


def test_the_result_card_of_the_run_page_leads_here(page: Any, url: str, run: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}?run={run}")
    page.click(".result-card .rc-inspect")
    page.wait_for_selector(f".inspect-view[data-run='{run}']")


@pytest.mark.parametrize("look", LOOKS)
def test_no_serious_finding_and_nothing_too_wide(
    browser: Any, url: str, run: str, look: str
) -> None:
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}inspect")
    page.wait_for_selector("#inspect-choice li")
    assert serious_findings(page) == []
    page.goto(f"{url}inspect?run={run}")
    page.wait_for_selector(DRAWN)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    buttons = page.locator(".iv button:visible, #inspect-tools button:visible")
    for index in range(buttons.count()):
        assert buttons.nth(index).bounding_box()["height"] >= 44
    if look == "narrow":
        page.evaluate("document.querySelector('.iv-lanes').scrollIntoView({block: 'center'})")
        box = page.locator(".iv-lanes").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] - 14, box["y"] + 40)
        assert step_of(page) >= STEPS - 1
    context.close()
