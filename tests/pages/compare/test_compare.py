"""The Compare page: what it says of stored episodes, and what a browser does with it."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pages import site
from pages.compare import page as compare_page
from pages.compare.page import answer, sentence_of
from pages.compare.plots import dumbbell
from pages.filling import SENTENCE
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, page_without_errors, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Episode, Outcome
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.pairs import Half, Pair, candidates
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
    assert len(sides["value"]) == 2 and not against["visible"]
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
    assert against["visible"] and [one for _, one in against["choices"]] == ["b", "c"]
    assert "A in 4" in said and "B in 2" in said and "C in 1" in said
    assert scenes["cells"] == {"both": 1, "only_a": 3, "only_b": 1, "neither": 0}
    other = answer(archive, {**two, "c": key, "with": "c"})[-1]
    assert other["cells"] == {"both": 0, "only_a": 4, "only_b": 1, "neither": 0}
    assert other["address"]["with"] == "c"


def test_policies_of_one_name_are_told_apart_everywhere(archive: Archive) -> None:
    for place, episode in enumerate(fill(EpisodeTable.in_memory())):
        for digest in ("c" * 16, "c" + "d" * 15):
            archive.table.put(acted(episode, digest, place == 1), [EVALUATION])
    keys = {one.side.agent: one.side.key for one in candidates(archive.table)}
    two = {"a": keys["c" * 16], "b": keys["c" + "d" * 15], "c": keys["a" * 16]}
    said, sides, _, against, plot, _, _ = answer(archive, two)
    names = [name for name, _ in sides["choices"]]
    assert len(set(names)) == len(names) == 4
    # A name that is one policy's alone needs nothing beside it.
    assert {"policy a, known sentences", "policy c (cddddd), known sentences"} < set(names)
    assert "A: policy c (cccccc), known sentences. B: policy c (cddddd), known sentences." in said
    assert against["choices"][0][0] == "B: policy c (cddddd), known sentences"
    drawn = plot.value["plot"]
    assert "A: policy c (cccccc)" in drawn and "B: policy c (cddddd)" in drawn


def test_an_empty_table_says_what_to_do(tmp_path: Any) -> None:
    table = EpisodeTable.in_memory()
    scenes = answer(Archive(table, Films(table, tmp_path)), {})[-1]
    assert "vlm4vla eval" in scenes["problem"]


def test_the_chart_has_every_interval_and_every_number_of_scenes() -> None:
    some = [
        Pair("tabletop", task, seed, Half("a", seed < 3), Half("b", seed < 5))
        for task, n in (("pick", 9), ("push", 7))
        for seed in range(n)
    ]
    figure = dumbbell(compare(some), "one", "other")
    for name in "AB":
        [dots] = [one for one in figure.data if (one.name or "").startswith(f"{name}: ")]
        assert len(dots.error_x.array) == len(dots.x) == 3
        assert min(dots.error_x.array) > 0 and min(dots.error_x.arrayminus) > 0
    for n in (9, 7, 16):
        assert any(f"n = {n}" in text for text in figure.layout.yaxis.ticktext)


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
    table = Archive.open().table
    # In one task a second scene, in which only the first succeeds.
    [place] = [one for one in fill(table) if one.spec.task == "place"]
    further = replace(place, spec=replace(place.spec, seed=1))
    for digest, success in (("a" * 16, True), ("b" * 16, False)):
        table.put(acted(further, digest, success), [EVALUATION], created=9.0)
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
            # There is no room for it above the legend, which is folded there.
            assert look != "narrow" or not page.locator("#compare-plot .modebar").is_visible()
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
        page.wait_for_function("document.querySelector('.cp-ghost svg')?.dataset.step === '0'")
        link = page.locator(".cp-ghost .cp-verdict").first
        assert link.bounding_box()["height"] >= 44
        link.tap()
        page.wait_for_url("**/inspect?run=*")


def query(page: Any) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(page.url).query).items()}


def take(page: Any, menu: str, text: str) -> None:
    page.click(f"#compare-{menu} input")
    page.click(f"[role=option]:has-text('{text}')")


def test_a_menu_that_is_only_left_changes_nothing(
    browser: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_page, "PER_PAGE", 1)
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}compare?cell=only_a&page=2")
        page.wait_for_selector("#compare .cp-card")
        page.click(".cp-card .ec-stage")
        page.wait_for_selector(".cp-ghost h3")
        before = page.url
        assert query(page).keys() >= {"cell", "page", "scene"}
        for menu in ("sides", "task"):
            page.click(f"#compare-{menu} input")
            page.keyboard.press("Escape")
            page.keyboard.press("Tab")
            page.wait_for_timeout(1_500)
            assert page.url == before, menu
            assert page.locator(".cp-ghost h3").is_visible()


def test_a_task_keeps_the_cell_where_it_has_scenes_of_it(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}compare?cell=both")
        page.wait_for_selector("#compare .cp-card")
        take(page, "task", "place")
        page.wait_for_function("location.search.includes('task=place')")
        assert query(page)["cell"] == "both"
        take(page, "task", "stack")
        page.wait_for_function("location.search.includes('task=stack')")
        assert query(page)["cell"] == "only_b"


@pytest.mark.parametrize("slow", [(1.0, 1.0), (3.0, 0.0)], ids=["in-turn", "overtaken"])
def test_what_is_chosen_while_an_answer_is_on_its_way_counts(
    browser: Any, address: str, monkeypatch: pytest.MonkeyPatch, slow: tuple[float, float]
) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}compare?cell=only_a")
        page.wait_for_selector("#compare .cp-card")
        seconds = iter(slow)

        def answer_late(*asked: Any) -> list[Any]:
            time.sleep(next(seconds, 0.0))
            return answer(*asked)

        monkeypatch.setattr(compare_page, "answer", answer_late)
        take(page, "task", "place")
        page.click("[data-cell=both]")
        page.wait_for_function("location.search.includes('cell=both')")
        page.wait_for_timeout(4_000)
        assert query(page)["task"] == "place" and query(page)["cell"] == "both"
        assert page.input_value("#compare-task input") == "place"
        assert page.locator(".cp-card").count() == 1


def test_a_second_menu_is_not_set_back_by_the_answer_to_the_first(
    browser: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}compare")
        page.wait_for_selector("#compare .cp-card")

        def answer_late(*asked: Any) -> list[Any]:
            time.sleep(1)
            return answer(*asked)

        monkeypatch.setattr(compare_page, "answer", answer_late)
        take(page, "task", "place")
        take(page, "task", "stack")
        page.wait_for_function("location.search.includes('task=')")
        page.wait_for_timeout(4_000)
        assert query(page)["task"] == "stack"
        assert page.input_value("#compare-task input") == "stack"


def test_nothing_contradicts_the_line_that_episodes_are_being_read(
    page: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    left: list[tuple[int, int]] = [(3, 50)]
    with serve(FakeSimulators(), FakeCatalogue(), lambda: left[-1] if left else None) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}compare?a=one&b=other")
        page.wait_for_selector(f"#filling p:has-text('{SENTENCE.format(3, 50)}')")
        page.wait_for_selector("#compare .cp[aria-busy=false]", state="attached")
        assert not page.locator(".cp-message").is_visible()
        # Both may be among the episodes that are still to come.
        assert query(page) == {"a": "one", "b": "other"}
        left.clear()
        page.wait_for_selector(".cp-message:has-text('nothing to compare yet')")
        page.goto("about:blank")
