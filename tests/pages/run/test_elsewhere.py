"""The same sentence in eight scenes, in a browser, with a simulator that only counts."""

from dataclasses import replace
from functools import partial
from typing import Any

from pages.run.elsewhere import Played, over, summary
from tests.live.fake_simulators import FakeCatalogue, FakeEnvironment, FakeSimulators
from tests.pages.conftest import PATIENCE, serve, wait_for_phase
from vlm4vla.core.episode import Outcome

DONE = "li[data-state='success']"


def test_the_summary_counts_what_was_carried_out_and_gives_its_interval() -> None:
    scene = Played("pick 7")
    good, bad = over(scene, Outcome("success", ".")), over(scene, Outcome("wrong_object", "."))
    stopped = over(scene, Outcome("stopped", "."))
    assert (good.badge, bad.badge, stopped.badge) == (
        "success",
        "not done: wrong object",
        "stopped",
    )
    assert "none is done yet" in summary([scene], 8, ended=False)
    # Wilson's interval of 2 of 3 is 20.8 to 93.9 %, of 6 of 8 it is 40.9 to 92.9 %.
    assert summary([good, bad, good, scene], 8, ended=False).endswith(
        "2 of 3 (95 % 21 to 94 %) so far, of 8."
    )
    assert summary([good] * 6 + [bad] * 2, 8, ended=True).endswith("6 of 8 (95 % 41 to 93 %).")
    assert summary([good, replace(stopped)], 8, ended=True).endswith("; 8 were wanted.")


def test_eight_scenes_fill_a_strip_whose_pictures_open_their_episodes(page: Any) -> None:
    page.set_default_timeout(PATIENCE)
    simulators = FakeSimulators()
    with serve(simulators, FakeCatalogue()) as url:
        page.goto(f"{url}?task=pick&seed=0")
        wait_for_phase(page, "still")
        assert not page.is_visible("#elsewhere")
        page.fill("#instruction textarea", "lift the orange cylinder")
        page.click("#run")
        page.wait_for_selector(".result-card[data-run]")
        card = page.get_attribute(".result-card[data-run]", "data-run")
        page.click("#elsewhere")
        page.wait_for_function(
            "s => document.querySelectorAll(`.es-scenes ${s} a[href]`).length === 8", arg=DONE
        )
        page.wait_for_selector(".es-told >> text=8 of 8 (95 % 68 to 100 %).")
        assert page.get_attribute(".result-card[data-run]", "data-run") == card
        labels = [link.get_attribute("aria-label") for link in page.locator(".es-scenes a").all()]
        assert labels[0] == "Scene pick 7: success" and len(set(labels)) == 8
        opened = page.locator(".es-scenes a").first.get_attribute("href")
        page.goto(f"{url}{opened}")
        page.wait_for_selector(f".result-card[data-run='{opened.removeprefix('?run=')}']")
        assert "pick 7" in page.inner_text(".rc-facts")
        # From there it goes on.
        simulators._new_environment = partial(FakeEnvironment, simulators.gate, lasts=90)
        page.click("#elsewhere")
        wait_for_phase(page, "live")
        page.wait_for_selector("li[data-state='now']")
        page.click("#stop")
        page.wait_for_selector("li[data-state='stopped']")
        page.wait_for_function("document.querySelector('#stop')?.disabled")
        states = [item.get_attribute("data-state") for item in page.locator(".es-scenes li").all()]
        assert states[-1] == "stopped" and states.count("stopped") == 1 and len(states) < 8
        page.wait_for_function("!document.querySelector('#elsewhere').disabled")
        assert simulators.busy == 0
        # Another scene is another question.
        page.click("#new-scene")
        wait_for_phase(page, "still")
        assert not page.is_visible("#elsewhere") and not page.is_visible(".es")
        page.goto("about:blank")


def test_another_scene_in_the_middle_leaves_no_strip(page: Any) -> None:
    page.set_default_timeout(PATIENCE)
    simulators = FakeSimulators()
    with serve(simulators, FakeCatalogue()) as url:
        page.goto(f"{url}?task=pick&seed=0")
        wait_for_phase(page, "still")
        page.fill("#instruction textarea", "lift the orange cylinder")
        page.click("#run")
        page.wait_for_selector(".result-card[data-run]")
        simulators._new_environment = partial(FakeEnvironment, simulators.gate, lasts=30)
        page.click("#elsewhere")
        page.wait_for_selector(f"{DONE} ~ li[data-state='now']")
        page.click("#new-scene")
        wait_for_phase(page, "still")
        # Gradio repeats what a stream said last.
        page.wait_for_timeout(1_000)
        assert not page.is_visible("#elsewhere") and not page.is_visible(".es")
        assert page.is_disabled("#stop")
        page.goto("about:blank")
