"""What the Run page does at each event, in a browser, with a simulator that only counts."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import LIVE, PATIENCE, serve, wait_for_phase
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import choose

pytestmark = pytest.mark.usefixtures("size")


@contextlib.contextmanager
def opened(page: Any, simulators: FakeSimulators) -> Iterator[None]:
    """The Run page with a scene that allows the most steps."""
    page.set_default_timeout(PATIENCE)
    with serve(simulators, FakeCatalogue()) as url:
        page.goto(f"{url}?task=stack&seed=3")
        wait_for_phase(page, "still")
        try:
            yield
        finally:
            simulators.gate.set()
            page.goto("about:blank")


def leave_menu(page: Any, menu: str) -> None:
    page.click(f"{menu} input")
    page.wait_for_selector("[role=listbox]")
    page.keyboard.press("Tab")


def test_a_mistake_in_the_middle_of_a_run_ends_it_with_a_sentence(page: Any) -> None:
    simulators = FakeSimulators(dies_at=20, dies_of=RuntimeError("device lost"), lasts=60)
    with opened(page, simulators):
        for _ in range(2):
            page.click("#run")
            wait_for_phase(page, "live")
            assert page.is_enabled("#stop")
            wait_for_phase(page, "error")
            said = "The episode was ended by a mistake in the program (RuntimeError: device lost)."
            assert said in page.inner_text(".lv-note")
            page.wait_for_function("document.querySelector('#stop')?.disabled")
            assert page.is_enabled("#run")
            assert simulators.busy == 0


def test_escape_stops_a_run_from_anywhere_on_the_page(page: Any) -> None:
    simulators = FakeSimulators(lasts=90)
    with opened(page, simulators):
        for focused in ("#instruction textarea", "#chips button"):
            page.click("#run")
            wait_for_phase(page, "live")
            # A menu that was left does not keep Escape for itself.
            leave_menu(page, "#agent")
            page.locator(focused).first.focus()
            page.keyboard.press("Escape")
            wait_for_phase(page, "stopped", "success")
            assert page.get_attribute(LIVE, "data-phase") == "stopped"
            assert "Stopped after" in page.inner_text(".lv-note")
            assert simulators.busy == 0


def test_escape_that_closes_a_menu_stops_nothing(page: Any) -> None:
    with opened(page, FakeSimulators(lasts=60)):
        page.click("#run")
        wait_for_phase(page, "live")
        page.click("#agent input")
        page.wait_for_selector("[role=listbox]")
        page.keyboard.press("Escape")
        page.wait_for_selector("[role=listbox]", state="detached")
        wait_for_phase(page, "stopped", "success")
        assert page.get_attribute(LIVE, "data-phase") == "success"


def choose_the_same(page: Any, menu: str) -> None:
    page.click(f"{menu} input")
    page.keyboard.press("Enter")
    page.locator(f"{menu} input").blur()


def type_the_same(page: Any, field: str) -> None:
    page.fill(f"{field} input", page.input_value(f"{field} input"))
    page.press(f"{field} input", "Tab")


def press_the_same(page: Any, radio: str) -> None:
    page.click(f"{radio} label:has(input:checked)")
    page.keyboard.press("Tab")


def tab_through(page: Any, part: str) -> None:
    page.locator(f"{part} input").first.focus()
    page.keyboard.press("Tab")


NO_CHANGE: list[tuple[Callable[[Any, str], None], str]] = [
    (leave_menu, "#agent"),
    (choose_the_same, "#agent"),
    (leave_menu, "#task"),
    (choose_the_same, "#task"),
    (type_the_same, "#seed"),
    (press_the_same, "#execute"),
    *((tab_through, part) for part in ("#agent", "#task", "#seed", "#execute", "#most-steps")),
]


def test_what_changes_nothing_neither_ends_a_run_nor_wipes_its_card(page: Any) -> None:
    simulators = FakeSimulators(lasts=10)
    with opened(page, simulators):
        page.click("#settings button")
        page.wait_for_selector("#execute")
        simulators.gate.clear()
        page.click("#run")
        wait_for_phase(page, "live")
        for do, part in NO_CHANGE:
            do(page, part)
            assert page.get_attribute(LIVE, "data-phase") == "live", (do, part)
        simulators.gate.set()
        wait_for_phase(page, "still", "success")
        page.wait_for_selector(".result-card[data-run]")
        run_id = page.get_attribute(".result-card[data-run]", "data-run")
        for do, part in NO_CHANGE:
            do(page, part)
            page.wait_for_timeout(500)
            shown = page.evaluate("document.querySelector('.result-card[data-run]')?.dataset.run")
            assert (shown, page.get_attribute(LIVE, "data-phase")) == (run_id, "success"), (
                do,
                part,
            )


def test_a_scene_number_that_is_typed_keeps_its_digits(page: Any) -> None:
    with opened(page, FakeSimulators()):
        slow = {"offline": False, "latency": 200, "downloadThroughput": -1, "uploadThroughput": -1}
        page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
        page.press("#seed input", "Control+a")
        page.locator("#seed input").press_sequentially("12345", delay=60)
        offered = suggestions(choose("stack", 12345).scene, "stack")[0]
        page.wait_for_function(
            "one => document.querySelector('#chips button').innerText === one", arg=offered
        )
        # Gradio repeats what a stream said last.
        page.wait_for_timeout(1_000)
        assert page.input_value("#seed input") == "12345"
        assert page.inner_text("#chips button >> nth=0") == offered
        # Nothing is rounded: what is typed and what is shown would differ.
        page.locator("#seed input").press_sequentially(".7", delay=60)
        page.wait_for_selector("#complaint >> text=whole number")


def test_what_is_chosen_before_a_slow_browser_hears_of_the_page_stays(page: Any) -> None:
    page.set_default_timeout(PATIENCE)
    catalogue = AgentCatalogue()
    *_, second = (name for name in catalogue.names() if name != EXPERT.name)
    held: list[Any] = []
    page.route("**/queue/data*", lambda route: held.append(route), times=1)
    with serve(FakeSimulators(), catalogue) as url:
        with page.expect_request("**/queue/data*"):
            page.goto(url)
        agent = page.locator("#agent input")
        agent.click()
        page.locator("[role=option]", has_text=second).click()
        page.wait_for_function("document.querySelector('#agent input')?.value !== ''")
        assert agent.input_value().startswith(second)
        held[0].continue_()
        page.wait_for_function("document.querySelector('.lv-note')?.innerText.includes('live')")
        # Gradio repeats what a stream said last.
        page.wait_for_timeout(1_000)
        assert agent.input_value().startswith(second)
        page.goto("about:blank")
