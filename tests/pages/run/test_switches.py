"""The two switches of the Run page, pressed while a policy acts."""

from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import LIVE, PATIENCE, serve, wait_for_phase

ACTING = ("#stop", "#blind", "#swap")


def test_it_is_blinded_and_told_of_another_object_in_mid_run(
    page: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    simulators = FakeSimulators(lasts=90)
    simulators.gate.clear()
    with serve(simulators, FakeCatalogue("policy")) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}?task=pick&seed=4")
        page.wait_for_selector(LIVE)
        wait_for_phase(page, "still")
        assert page.is_disabled("#blind") and page.is_disabled("#swap")
        sentence = page.input_value("#instruction textarea")
        page.click("#run")
        page.click("#blind:not([disabled])")
        page.wait_for_function("document.querySelector('.lv-note')?.innerText.includes('blind')")
        page.click("#swap:not([disabled])")
        page.wait_for_function(
            "asked => document.querySelector('.lv-instruction').innerText !== asked", arg=sentence
        )
        page.wait_for_selector("#swap[disabled]")
        simulators.gate.set()
        page.wait_for_selector(".result-card[data-run]")
        facts = page.inner_text(".rc-facts")
        assert "picture-blank (level 128) from step" in facts
        assert "sentence-other-object from step" in facts
        # Its success says nothing about plain sentences, and no command repeats it.
        assert "Its success at" not in facts
        assert not page.is_visible("[data-copy=command]")
        assert page.is_disabled("#blind") and page.is_disabled("#swap")


def test_nothing_can_be_stopped_or_switched_once_another_scene_is_shown(page: Any) -> None:
    page.set_default_timeout(PATIENCE)
    simulators = FakeSimulators(lasts=90)
    with serve(simulators, FakeCatalogue("policy")) as url:
        page.goto(f"{url}?task=pick&seed=4")
        wait_for_phase(page, "still")
        page.click("#run")
        wait_for_phase(page, "live")
        for button in ACTING:
            page.wait_for_selector(f"{button}:not([disabled])")
        page.click("#new-scene")
        wait_for_phase(page, "still")
        # Gradio repeats what a stream said last.
        page.wait_for_timeout(1_000)
        assert [page.is_disabled(button) for button in ACTING] == [True] * 3
        # Another run has them again, although it replaces one.
        for _ in range(2):
            page.click("#run")
            wait_for_phase(page, "live")
        page.wait_for_timeout(500)
        assert [page.is_disabled(button) for button in ACTING] == [False] * 3
        page.click("#stop")
        wait_for_phase(page, "stopped")
        page.goto("about:blank")
