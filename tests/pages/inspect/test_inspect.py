"""The Inspect page in a browser: mouse, keyboard, touch, the address, and what is around it."""

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from tests.inspection.examples import POLICY, still_episode
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.attribution.worth import NOT_MEASURED
from vlm4vla.core.condition import Perturbation
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Membership
from vlm4vla.eval.labelling import label_missing
from vlm4vla.inspection.kinds import ONE_LAYER
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


def test_maps_are_chosen_with_their_worth_and_dragging_over_them_asks_nobody(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: Path
) -> None:
    from vlm4vla.agents.policy import load_agent

    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    identity = load_agent(checkpoints / "untrained").identity
    episode = still_episode(np.tile([0.3, 0.3, 0, 0, 0, 0, 1.0], (8, 1)), agent=identity)
    key = Archive.open().table.put(episode, [Membership("live")])
    with serve(FakeSimulators(), AgentCatalogue(roots=(checkpoints,))) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}inspect?run={key}&t=5&target=gripper")
        page.wait_for_selector(".inspect-view[data-maps='2'][data-shown='gripper-occlusion']")
        assert page.inner_text(".iv-worth") == NOT_MEASURED
        command = f"vlm4vla attribute --run {key} --step 4 --method occlusion --target gripper"
        assert page.inner_text(".iv-command code") == f"{command} --out maps"
        page.select_option(".iv-method", "attention")
        page.wait_for_selector(".inspect-view[data-maps='2'][data-shown='gripper-attention']")
        layer = page.locator(".iv-layer")
        layer.focus()
        page.keyboard.press("ArrowUp")
        page.wait_for_function(
            "document.querySelector('.iv-command code').textContent.endsWith('--layer 0')"
        )
        assert page.inner_text(".iv-worth") == ONE_LAYER
        page.wait_for_function("location.search.includes('layer=0')")
        assert asked(page)["target"] == ["gripper"]
        assert asked(page)["method"] == ["attention"]
        # What has no slope has no gradient, which is said and asked for nowhere again.
        page.select_option(".iv-target", "agreement")
        page.select_option(".iv-method", "gradient")
        page.wait_for_selector(".iv-missing li:has-text('no slope')")
        assert "no slope" in page.inner_text(".iv-caption")
        requests: list[str] = []
        # Nor does a choice that is left at once for another one change what is shown.
        page.select_option(".iv-target", "gripper")
        page.select_option(".iv-method", "occlusion")
        page.wait_for_selector(".inspect-view[data-shown='gripper-occlusion']")
        page.wait_for_timeout(1500)
        page.wait_for_selector("#inspect-status .is:empty", state="attached")
        page.evaluate("document.querySelector('.iv-lanes').scrollIntoView({block: 'center'})")
        box = page.locator(".iv-lanes").bounding_box()
        page.on("request", lambda request: requests.append(request.url))
        page.mouse.move(box["x"] + 140, box["y"] + 30)
        page.mouse.down()
        steps = set()
        for x in range(140, int(box["width"]), 40):
            page.mouse.move(box["x"] + x, box["y"] + 30)
            page.wait_for_timeout(20)
            steps.add(step_of(page))
            assert page.get_attribute(VIEWER, "data-shown") == "gripper-occlusion"
        page.mouse.up()
        assert steps == set(range(9)) and requests == []
        page.reload()
        page.wait_for_selector(".inspect-view[data-shown='gripper-occlusion']")


def test_what_was_predicted_is_told_beside_what_was_done(inspected: Any) -> None:
    inspected.keyboard.press(".")
    wait_for_step(inspected, 4)
    inspected.wait_for_function("document.querySelector('.iv-now')?.innerText.includes('step 4')")
    # The arm of this episode never moved.
    assert "4 of 4 actions carried out since step 4" in inspected.inner_text(".iv-now")
    titles = inspected.locator(".iv-lanes title")
    assert titles.count() == STEPS // 4
    assert titles.nth(1).text_content() in inspected.inner_text(".iv-now")
    inspected.keyboard.press(",")
    wait_for_step(inspected, 0)


def test_it_plays_faster_and_round_and_round(inspected: Any) -> None:
    inspected.select_option(".iv-speed", "4")
    inspected.click("[data-go=loop]")
    inspected.click("[data-go=play]")
    wait_for_step(inspected, STEPS)
    wait_for_step(inspected, 3)
    inspected.click("[data-go=loop]")
    wait_for_step(inspected, STEPS)
    inspected.wait_for_selector("[data-go=play][aria-label=Play]")


def test_the_reason_and_the_first_lanes_are_seen_at_once(inspected: Any) -> None:
    inspected.set_viewport_size({"width": 1280, "height": 800})
    inspected.wait_for_selector("#inspect-status .is:empty", state="attached")
    for name in ("diagnosis", "policy", "view", "slider", "now"):
        box = inspected.locator(f".iv-{name}").bounding_box()
        assert box["y"] + box["height"] < 800, name
    lane = inspected.locator(".iv-lanes text:text-is('From the expert')").bounding_box()
    assert lane["y"] + lane["height"] < 800


def test_the_next_of_the_list_that_one_came_from(page: Any, url: str, data_folder: Path) -> None:
    page.set_default_timeout(PATIENCE)
    keys = []
    for seed in (91, 92, 93):
        rows = np.tile([0.3, 0.3, 0, 0, 0, 0, 1.0], (4, 1))
        one = still_episode(rows, task="place", agent=POLICY, seed=seed)
        keys.append(Archive.open().table.put(one, [Membership("evaluation", "near")]))
    label_missing(Archive.open().table)
    listed = f"agent={POLICY.digest}&condition=all&task=place"
    page.goto(f"{url}inspect?run={keys[1]}&list={quote(listed)}")
    page.wait_for_selector(".iv-near [data-near=next]")
    assert page.inner_text(".iv-near a >> nth=0") == "2 of 3 failures"
    whole = parse_qs(urlsplit(page.get_attribute(".iv-near a >> nth=0", "href")).query)
    assert whole == parse_qs(listed)
    # The newest comes first on the wall.
    page.keyboard.press("j")
    page.wait_for_selector(f".inspect-view[data-run='{keys[0]}']")
    page.wait_for_selector(".iv-near [data-near=previous]")
    assert page.locator(".iv-near [data-near=next]").count() == 0
    page.keyboard.press("k")
    page.wait_for_selector(f".inspect-view[data-run='{keys[1]}']")


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
