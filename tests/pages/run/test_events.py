"""What the Run page does at each event, in a browser, with a simulator that only counts."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import LIVE, PATIENCE, serve, wait_for_phase


@contextlib.contextmanager
def opened(page: Any, simulators: FakeSimulators) -> Iterator[None]:
    """The Run page with a scene that allows the most steps."""
    page.set_default_timeout(PATIENCE)
    with serve(simulators, FakeCatalogue()) as url:
        page.goto(f"{url}?task=stack&seed=3")
        wait_for_phase(page, "still")
        yield
        page.goto("about:blank")


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
            page.wait_for_function("document.querySelector('#stop').disabled")
            assert page.is_enabled("#run")
            assert simulators.busy == 0


def test_escape_stops_a_run_from_anywhere_on_the_page(page: Any) -> None:
    simulators = FakeSimulators(lasts=90)
    with opened(page, simulators):
        for focused in ("#instruction textarea", "#chips button"):
            page.click("#run")
            wait_for_phase(page, "live")
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
        page.click("#driver input")
        page.wait_for_selector("[role=listbox]")
        page.keyboard.press("Escape")
        page.wait_for_selector("[role=listbox]", state="detached")
        wait_for_phase(page, "stopped", "success")
        assert page.get_attribute(LIVE, "data-phase") == "success"
