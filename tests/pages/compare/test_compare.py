"""The Compare page: what it says of stored episodes, and what a browser does with it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pages import site
from pages.compare.page import answer, sentence_of
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import page_without_errors, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Episode, Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.pairs import Half, Pair
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.compare import compare

EVALUATION = Membership("evaluation", "test")


def acted(episode: Episode, digest: str, success: bool) -> Episode:
    outcome = episode.outcome
    if not success:
        outcome = Outcome("dropped", "It dropped it.", {"wrong_object": False})
    span = AgentSpan(AgentId("policy", digest, f"policy {digest[0]}"))
    spec = replace(episode.spec, condition=Condition())
    return replace(episode, agents=(span,), outcome=outcome, spec=spec, reading={})


def fill(table: EpisodeTable) -> list[Episode]:
    """Two policies in five scenes: in one both succeed, in one only the second, else only one."""
    recorded = Archive.bundled(site.RECORDINGS)
    some = [recorded.table.get(key) for key in recorded.oldest_first()]
    for place, episode in enumerate(some):
        first = acted(episode, "a" * 16, place != 1)
        second = acted(episode, "b" * 16, place < 2)
        table.put(first, [EVALUATION], created=10.0 + place)
        table.put(second, [EVALUATION], created=20.0 + place)
    return some


@pytest.fixture
def archive(tmp_path: Any) -> Archive:
    table = EpisodeTable.in_memory()
    fill(table)
    return Archive(table, Films(table, tmp_path))


def test_the_answer_comes_first_and_the_cells_hold_the_scenes(archive: Archive) -> None:
    said, sides, _, against, plot, csv, scenes = answer(archive, {})
    assert "A succeeds more often than B: +40.0 points" in said
    assert "A in 4 and B in 2 of 5 shared scenes" in said
    assert "Not yet distinguishable; about" in said
    # The older of the newest two is what the newer one is compared with.
    assert "A: policy a, known sentences. B: policy b, known sentences." in said
    assert scenes["cells"] == {"both": 1, "only_a": 3, "only_b": 1, "neither": 0}
    assert scenes["cell"] == "only_a" and len(scenes["scenes"]) == 3
    for scene in scenes["scenes"]:
        assert scene["a"]["success"] and not scene["b"]["success"]
        assert scene["b"]["sketch"]["hand"] and scene["a"]["id"] != scene["b"]["id"]
    assert plot.value is not None and "base64" in csv
    assert len(sides["value"]) == 2 and not against.visible
    asked = scenes["address"]
    assert set(asked) >= {"a", "b"} and asked["cell"] == "only_a"


def test_an_address_opens_what_it_names_and_mends_what_it_cannot(archive: Archive) -> None:
    first = answer(archive, {})[-1]
    asked = first["address"]
    only_b = answer(archive, {**asked, "cell": "only_b"})[-1]
    assert [one["b"]["success"] for one in only_b["scenes"]] == [True]
    scene = only_b["scenes"][0]["key"]
    again = answer(archive, {**asked, "cell": "only_b", "scene": scene})[-1]
    assert again["address"]["scene"] == scene
    turned = answer(archive, {"a": asked["b"], "b": asked["a"]})
    assert "B succeeds more often than A" in turned[0]
    odd = {**asked, "cell": "x", "page": "-1", "task": "y", "scene": "z", "with": "q"}
    assert answer(archive, odd)[-1]["cells"] == first["cells"]
    assert "second side" in answer(archive, {"a": asked["a"]})[-1]["problem"]


def test_three_are_compared_and_the_scenes_are_of_the_first_and_the_chosen_one(
    archive: Archive,
) -> None:
    two = answer(archive, {})[-1]["address"]
    for place, episode in enumerate(fill(EpisodeTable.in_memory())):
        # The third does what the first does not.
        third = acted(episode, "c" * 16, place == 1)
        archive.table.put(third, [EVALUATION], created=30.0 + place)
    # The newest two come first by themselves; who stood there before is named by the address.
    [key] = {
        value for name, value in answer(archive, {})[-1]["address"].items() if name in "ab"
    } - {
        two["a"],
        two["b"],
    }
    said, sides, _, against, _, _, scenes = answer(archive, {**two, "c": key})
    assert sides["value"] == [two["a"], two["b"], key]
    assert against.visible and [one for _, one in against.choices] == ["b", "c"]
    assert "A in 4" in said and "B in 2" in said and "C in 1" in said
    assert scenes["cells"] == {"both": 1, "only_a": 3, "only_b": 1, "neither": 0}
    other = answer(archive, {**two, "c": key, "with": "c"})[-1]
    assert other["cells"] == {"both": 0, "only_a": 4, "only_b": 1, "neither": 0}
    assert other["address"]["with"] == "c"


def test_an_empty_table_says_what_to_do(tmp_path: Any) -> None:
    table = EpisodeTable.in_memory()
    scenes = answer(Archive(table, Films(table, tmp_path)), {})[-1]
    assert "vlm4vla eval" in scenes["problem"]


def test_no_side_is_called_better_where_nothing_differs() -> None:
    same = [
        Pair("tabletop", "pick", seed, Half("a", seed < 3), Half("b", seed < 3))
        for seed in range(9)
    ]
    said = sentence_of(compare(same)[0], "A", "B")
    assert said.startswith("No difference was seen: A in 3 and B in 3 of 9 shared scenes")
    assert "more often" not in said and "the same" not in said


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    fill(Archive.open().table)
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        yield url


def test_cells_scenes_and_the_address_in_a_browser(browser: Any, address: str) -> None:
    for look, settings in LOOKS.items():
        with page_without_errors(browser, settings) as page:
            page.goto(f"{address}compare")
            page.wait_for_selector("#compare .cp-card")
            if look == "light":
                page.click("[data-cell=both]")
                page.wait_for_function("location.search.includes('cell=both')")
                assert page.locator(".cp-card").count() == 1
                page.click(".cp-card .ec-stage")
                page.wait_for_selector(".cp-ghost .cp-transport")
                assert "scene=" in page.url
                slider = page.locator(".cp-ghost input[type=range]")
                slider.focus()
                page.keyboard.press("Home")
                assert page.inner_text(".cp-transport output") == "step 0"
                assert page.get_attribute(".cp-ghost svg", "data-step") == "0"
                link = page.get_attribute(".cp-ghost .cp-verdict", "href")
                assert link and link.startswith("/inspect?run=")
                shared = page.url
                page.goto(shared)
                page.wait_for_selector(".cp-ghost .cp-transport")
            if look == "narrow":
                page.tap("[data-cell=only_b]")
                page.wait_for_function("location.search.includes('cell=only_b')")
                page.tap(".cp-card .ec-stage")
                page.wait_for_selector(".cp-ghost .cp-transport")
            page.wait_for_selector("#compare-plot .main-svg")
            assert serious_findings(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            heights = page.eval_on_selector_all(
                ".cp-cells button, .cp-pager button, .cp-verdict",
                "found => found.map((one) => one.getBoundingClientRect().height)",
            )
            assert min(heights) >= 44


def test_everything_is_reached_by_the_keyboard_alone(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}compare")
        page.wait_for_selector("#compare .cp-card")

        def tab_to(selector: str) -> None:
            for _ in range(80):
                page.keyboard.press("Tab")
                if page.evaluate("s => document.activeElement.matches(s)", selector):
                    return
            raise AssertionError(f"{selector} is not reached")

        tab_to("[data-cell=both]")
        page.keyboard.press("Enter")
        page.wait_for_function("location.search.includes('cell=both')")
        page.wait_for_function("document.querySelectorAll('.cp-card').length === 1")
        tab_to(".cp-card .ec-stage")
        page.keyboard.press("Enter")
        page.wait_for_selector(".cp-ghost .cp-transport")
        # Opened, it has the focus: what follows is its own.
        tab_to(".cp-transport input[type=range]")
        page.keyboard.press("End")
        last = page.get_attribute(".cp-transport input", "max")
        assert page.inner_text(".cp-transport output") == f"step {last}"
        page.keyboard.press("ArrowLeft")
        assert page.inner_text(".cp-transport output") == f"step {int(last) - 1}"
        tab_to(".cp-transport button:not(.cp-play)")
        page.keyboard.press("Enter")
        page.wait_for_selector(".cp-ghost", state="hidden")
        assert "scene=" not in page.url


def test_a_finger_draws_the_slider_and_opens_the_episode(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["narrow"]) as page:
        page.goto(f"{address}compare?cell=only_a")
        page.wait_for_selector("#compare .cp-card")
        page.locator(".cp-card .ec-stage").first.tap()
        slider = page.locator(".cp-transport input[type=range]")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box["height"] >= 44
        page.touchscreen.tap(box["x"] + 2, box["y"] + box["height"] / 2)
        page.wait_for_function("document.querySelector('.cp-ghost svg').dataset.step === '0'")
        link = page.locator(".cp-ghost .cp-verdict").first
        assert link.bounding_box()["height"] >= 44
        link.tap()
        page.wait_for_url("**/inspect?run=*")
