"""The Run page with a driver that takes any sentence, as a policy does."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pages import run, site
from tests.pages.conftest import LIVE, PATIENCE, Served, free_port, wait_for_phase


class Idle:
    """Looks at the picture and stays where it is."""

    kind, label, execute = "policy", "policy feedbeef", 4

    def begin(self, scene: Any, instruction: str) -> None:
        pass

    def act(self, observation: Any) -> Any:
        assert observation.image is not None
        return np.zeros((4, 7), np.float32)


@pytest.fixture
def address(served: Served) -> Iterator[str]:
    app = site.build(served.stage, run.Cast("feedbeef", Idle))
    port = free_port()
    app.launch(
        server_name="127.0.0.1",
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        **site.launch_settings(),
    )
    yield f"http://127.0.0.1:{port}/?task=pick&seed=0"
    app.close()


def test_an_unknown_sentence_is_marked_and_runs_and_failure_is_explained(
    page: Any, address: str
) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector(LIVE)
    wait_for_phase(page, "still")
    known = page.locator("#chips button").first.inner_text()
    page.fill("#instruction textarea", f"kindly {known}")
    page.click("#run")
    wait_for_phase(page, "failure")
    assert "kindly" in page.inner_text("#complaint")
    assert page.is_visible("#proposal")
    assert "never touched" in page.inner_text(".lv-note")
    assert "timeout" in page.get_attribute(LIVE, "data-events")
    page.wait_for_selector(".result-card[data-run]")
    facts = page.inner_text(".rc-facts")
    assert "feedbeef" in facts
    assert "0 of 0 episodes" in facts
    assert page.is_visible("[data-copy=client]")
    assert not page.is_visible("[data-copy=command]")
    assert page.inner_text(".rc-title") == "Not done: not reached"
