"""What the Run page does at each event, in a browser, with a simulator that only counts."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve, wait_for_phase


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
