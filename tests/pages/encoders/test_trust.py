"""Which maps deserve trust and where encoders look, on the Encoders page, over what is shipped."""

import csv
import io
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages.encoders import shares
from pages.encoders.page import _JUMPS
from pages.encoders.trust import MEASURE, POLICY, TARGET, answer
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import page_without_errors, serve
from tests.pages.test_access import LOOKS, serious_findings, tab_to
from vlm4vla.attribution.trust_results import SHIPPED, read_trust
from vlm4vla.representations.results import SHIPPED as REPRESENTATIONS
from vlm4vla.representations.results import read_shares


def downloaded(part: str) -> list[dict[str, str]]:
    text = b64decode(part.split("base64,")[1].split('"')[0]).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_the_verdict_its_reasons_and_an_address_that_is_mended() -> None:
    said, target, _, policy, passed, plot, below, masses, alike, made, address = answer(SHIPPED, {})
    assert "deserve trust: occlusion, rollout and integrated for paligemma-tiny" in said
    assert passed.count("<b>nothing</b>") == 3 and passed.count("<tr>") == 9
    assert (target.value, policy.value) == ("displacement", "qwen3vl-tiny")
    assert all(one.visible for one in (plot, masses, alike))
    assert "n = 100 episodes a policy" in below and below.count("vlm4vla trust --checkpoint") == 3
    # Eight methods of three policies at two inferences.
    assert len(downloaded(below)) == 48
    table = read_trust()[0]
    assert table.digest in made
    assert address == {TARGET: "displacement", MEASURE: "deletion", POLICY: "qwen3vl-tiny"}
    asked = {TARGET: "gripper", MEASURE: "collapse", POLICY: "paligemma-tiny"}
    *_, below, _, _, made, address = answer(SHIPPED, asked)
    assert address == asked and "n = 20 episodes a policy" in below
    assert len(downloaded(below)) == 24
    assert {row["policy"] for row in downloaded(made)} == {"paligemma-tiny"}
    *_, address = answer(SHIPPED, {TARGET: "x", MEASURE: "y", POLICY: "z"})
    assert address == {TARGET: "displacement", MEASURE: "deletion", POLICY: "qwen3vl-tiny"}


def test_shares_are_shown_with_their_n_and_command() -> None:
    rows = read_shares()
    assert {row.checkpoint for row in rows if row.method == "grad-cam"} == {
        "qwen3vl-tiny",
        "internvl-tiny",
        "paligemma-tiny",
    }
    assert all(row.low <= row.value <= row.high and row.inferences == 250 for row in rows)
    said, plot, below = shares.answer(REPRESENTATIONS)
    assert "paligemma-tiny in query 2 (5.1 %), query 4 (19.0 %)" in said
    assert plot.visible and "n = 50 test seeds, 250 inferences" in below
    assert len(downloaded(below)) == len(rows)


def test_nothing_says_what_to_do(tmp_path: Path) -> None:
    said, *_, plot, _, masses, alike, _, address = answer(tmp_path, {})
    assert "vlm4vla trust" in said and address is None
    assert not any(one.visible for one in (plot, masses, alike))
    assert "vlm4vla represent" in shares.answer(tmp_path)[0]


def test_it_needs_no_torch() -> None:
    code = (
        "import sys\nfrom pages.encoders import shares, trust\n"
        "from vlm4vla.attribution.trust_results import SHIPPED\n"
        "trust.answer(SHIPPED, {})\nassert not {'torch', 'sapien', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


CHARTS = (
    "#encoder-curves", "#encoder-cka", "#trust-agreement", "#shares-layers", "#trained-cells",
    "#trained-layers",
)  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        yield url


def test_nothing_serious_is_found_in_any_look(browser: Any, address: str) -> None:
    """The whole page, with a cell of a study open below."""
    for settings in LOOKS.values():
        with page_without_errors(browser, settings) as page:
            page.goto(f"{address}encoders?trained-study=modules#trust")
            for chart in CHARTS:
                page.wait_for_selector(f"{chart} .main-svg")
            # What is drawn above it later does not push it out of sight.
            page.wait_for_function(
                "Math.abs(document.querySelector('#trust').getBoundingClientRect().top) < 60"
            )
            page.click("#trained-list summary")
            small = page.locator(
                "#encoder-jumps a, #trust-below a, #trust-below summary, #trust-made a, "
                "#shares-below a, #trust-controls label:has(> input), "
                "#trained-list a:visible, #trained-below a"
            ).evaluate_all(
                "all => all.filter(one => one.offsetHeight < 44).map(one => one.outerHTML)"
            )
            assert small == []
            assert serious_findings(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_anchors_menus_and_the_address_in_a_browser(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}encoders?{TARGET}=gripper#trust")
        page.wait_for_selector("#trust-agreement .main-svg")
        assert "Maps of the gripper" in page.inner_text("#trust-answer")
        links = page.locator("#encoder-jumps a")
        anchors = links.evaluate_all("all => all.map(one => one.hash.slice(1))")
        assert anchors == list(_JUMPS)
        assert all(page.locator(f"#{anchor}").count() == 1 for anchor in anchors)
        page.click("#trust-policy input")
        page.click("[role=option]:has-text('internvl-tiny')")
        page.wait_for_function(f"location.search.includes('{POLICY}=internvl-tiny')")
        # The probes' own choice leaves it alone.
        page.click("text=how high the gripper is")
        page.wait_for_function("location.search.includes('target=height')")
        assert f"{POLICY}=internvl-tiny" in page.url and f"{TARGET}=gripper" in page.url
        page.reload()
        page.wait_for_selector("#trust-agreement .main-svg")
        assert "internvl-tiny, policy" in page.inner_text("#trust-made")


def test_probes_by_keyboard_alone(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}encoders")
        page.wait_for_selector("#encoder-curves .main-svg")
        # A link to a section.
        tab_to(page, "#encoder-jumps a[href='encoders#trust']")
        page.keyboard.press("Enter")
        page.wait_for_function("location.hash === '#trust'")
        page.focus("#encoder-jumps a >> nth=-1")
        # What a layer is asked.
        tab_to(page, "#encoder-controls input[value=gripper]")
        page.keyboard.press("Space")
        page.wait_for_function("location.search.includes('target=gripper')")
        page.wait_for_function(
            "document.querySelector('#encoder-answer').innerText.includes('where the gripper is')"
        )
        # An encoder less.
        chosen = "new URL(location.href).searchParams.get('encoders').split(',').length"
        before = page.evaluate(chosen)
        tab_to(page, "#encoder-controls .token-remove")
        page.keyboard.press("Enter")
        page.wait_for_function(f"n => {chosen} === n", arg=before - 1)
        # The other probe.
        tab_to(page, "#encoder-controls input[value=attentive]")
        page.keyboard.press("Space")
        page.wait_for_function("location.search.includes('probe=attentive')")
        # What the plot shows, for those who cannot point at it.
        tab_to(page, "#encoder-csv a")


def test_probes_by_finger(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["narrow"]) as page:
        page.goto(f"{address}encoders")
        page.wait_for_selector("#encoder-curves .main-svg")
        page.locator("#encoder-jumps a[href='encoders#shares']").tap()
        page.wait_for_function(
            "Math.abs(document.querySelector('#shares').getBoundingClientRect().top) < 60"
        )
        choice = page.locator("#encoder-controls label:has-text('how far from the camera')")
        choice.tap()
        page.wait_for_function("location.search.includes('target=depth')")
        assert "how far from the camera the named object is" in page.inner_text("#encoder-answer")
        page.locator("#encoder-controls label:has-text('attentive')").tap()
        page.wait_for_function("location.search.includes('probe=attentive')")
        small = page.locator("#encoder-controls label:has(> input[type=radio])").evaluate_all(
            "all => all.filter(one => one.offsetHeight < 44).map(one => one.outerHTML)"
        )
        assert small == []
        # A point tells its numbers.
        point = page.locator("#encoder-curves .scatterlayer .point").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#encoder-curves .hovertext")
