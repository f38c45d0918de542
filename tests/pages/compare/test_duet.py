"""Two agents live on the Compare page, in simulators that play the same short episode."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings, tab_to
from vlm4vla.episodes.archive import Archive
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeSimulators(places=2, lasts=12), FakeCatalogue()) as url:
        yield url


def test_both_are_run_by_one_button_and_the_address_runs_them_again(
    page: Any, address: str
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_task=push&scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    said = page.input_value("#duet-sentence textarea, #duet-sentence input")
    before = Archive.open().table.count(Filter(kind="live"))
    page.click("#duet-run")
    page.wait_for_selector(".duet[data-phase=over] figure[data-side=a] a")
    page.wait_for_selector("#duet figure[data-side=b] a")
    for side in "ab":
        figure = f"#duet figure[data-side={side}]"
        assert page.get_attribute(figure, "data-phase") == "success"
        # A busy browser skips to the newest picture; it has painted one at least.
        assert int(page.get_attribute(figure, "data-painted")) >= 1
        assert page.get_attribute(f"{figure} a", "href").startswith("/inspect?run=")
    assert "Both did it" in page.inner_text(".du-note")
    # The same agent on the same scene: one episode.
    assert Archive.open().table.count(Filter(kind="live")) == before + 1
    assert "scene_task=push" in page.url and "scene_seed=4" in page.url
    page.reload()
    page.wait_for_selector(".duet[data-ready]")
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    assert page.input_value("#duet-sentence textarea, #duet-sentence input") == said
    page.wait_for_selector("#compare-plot .main-svg, .cp-message:not([hidden])")
    assert serious_findings(page) == []
    assert complaints == []


def test_a_scene_that_there_is_not_is_told(page: Any, address: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    # The address would else overwrite what is typed.
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    page.click("#duet-seed input", click_count=3)
    page.keyboard.type("-5")
    page.keyboard.press("Tab")
    page.click("#duet-run")
    page.wait_for_selector("#duet-complaint .message")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "scene_seed=4&change_b=sentence-empty+sentence-nonsense",
            "Nothing is changed for B: sentence-empty and sentence-nonsense would each tell a "
            "sentence of its own.",
        ),
        ("live_b=nobody", "There is no nobody here; B is "),
        ("scene_task=juggle&scene_seed=4", "There is no scene 4 of juggle; shown is 0 of pick."),
    ],
)
def test_what_of_an_address_cannot_be_is_told_and_nothing_runs(
    page: Any, address: str, asked: str, said: str
) -> None:
    page.set_default_timeout(PATIENCE)
    page.set_viewport_size({"width": 390, "height": 400})
    page.goto(f"{address}compare?{asked}&start=1")
    page.wait_for_selector(".duet[data-ready]")
    told = page.inner_text("#duet-complaint .message")
    assert told.startswith(said)
    # Whatever an address without a fault starts is seen at once.
    page.wait_for_timeout(2_000)
    assert page.get_attribute(".duet", "data-phase") not in ("waiting", "live", "over")
    assert page.inner_text("#duet-complaint .message") == told
    # Far below what a small screen shows, and brought into sight.
    assert 0 <= page.locator("#duet-complaint .message").bounding_box()["y"] < 400


def test_both_are_run_and_inspected_by_keyboard_alone(page: Any, address: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_task=push&scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    tab_to(page, "#duet-sentence textarea, #duet-sentence input")
    page.keyboard.press("Enter")
    page.wait_for_selector(".duet[data-phase=over] figure[data-side=a] a")
    tab_to(page, "#duet figure[data-side=a] a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/inspect?run=*")


def test_what_could_not_be_stored_is_told_with_the_reason(
    page: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise UserError("The disk is full.", "Make room.")

    monkeypatch.setattr(EpisodeTable, "put", full)
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_task=push&scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    page.click("#duet-run")
    for side in "ab":
        page.wait_for_selector(
            f"#duet figure[data-side={side}] figcaption:has-text('The disk is full. Make room.')"
        )
    assert page.locator("#duet figure a").count() == 0


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_for_everybody(browser: Any, address: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_task=push&scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    page.wait_for_function("document.querySelector('#duet-seed input')?.value === '4'")
    button = page.locator("#duet-run")
    button.tap() if look == "narrow" else button.click()
    page.wait_for_selector(".duet[data-phase=over] figure[data-side=b] a")
    for pressed in ("#duet-run", "#duet-stop", "#duet figure[data-side=a] a"):
        box = page.locator(pressed).first.bounding_box()
        assert min(box["width"], box["height"]) >= 44, pressed
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert serious_findings(page) == []
    context.close()


def test_ones_own_sentence_stays_as_long_as_it_means_something(page: Any, address: str) -> None:
    sentence = "#duet-sentence textarea, #duet-sentence input"

    def said() -> str:
        # Whatever would replace it comes from the server.
        page.wait_for_timeout(1_500)
        return str(page.input_value(sentence))

    def take(task: str) -> None:
        page.click("#duet-task input")
        page.click(f"[role=option]:has-text('{task}')")

    def wait_for(text: str) -> None:
        page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.value === text", arg=[sentence, text]
        )

    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}compare?scene_task=pick&scene_seed=4")
    page.wait_for_selector(".duet[data-ready]")
    wait_for("grab the red cylinder")
    page.fill(sentence, "touch the red cube")
    # Gradio calls it input when a menu is left.
    tab_to(page, "#duet-a input", back=True)
    assert said() == "touch the red cube"
    page.click("#duet-task input")
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert said() == "touch the red cube"
    take("stack")
    assert said() == "touch the red cube"
    page.click("#duet-seed input", click_count=3)
    page.keyboard.type("5")
    wait_for("set the green cylinder down on top of the yellow cylinder")
    take("reach")
    wait_for("move the hand to the green cylinder")
