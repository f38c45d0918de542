"""The Run page as a visitor uses it, in a browser, with the real simulator."""

import base64
import io
import os
import signal
from typing import Any

import av
import pytest

from tests.pages.conftest import LIVE, PATIENCE, RECORDING_SHOWS, Served, wait_for_phase

WATCH = """() => {
    const live = document.querySelector('.live-view[data-ready]');
    const canvas = live.querySelector('.lv-view');
    window.frames_seen = new Set();
    new MutationObserver(() => {
        if (live.dataset.phase === 'live') window.frames_seen.add(canvas.toDataURL());
    }).observe(live, { attributes: true, attributeFilter: ['data-painted'] });
}"""


def carry_out(page: Any, instruction: str) -> dict[str, Any]:
    """Types a sentence, presses Run, and returns what the page told until the end."""
    page.evaluate(WATCH)
    page.fill("#instruction textarea", instruction)
    page.click("#run")
    wait_for_phase(page, "live")
    wait_for_phase(page, "success", "failure")
    return {
        "frames": page.evaluate("window.frames_seen.size"),
        "events": page.get_attribute(LIVE, "data-events").split(),
        "note": page.inner_text(".lv-note"),
        "agent": page.inner_text(".lv-agent"),
        "last": page.evaluate("document.querySelector('#live .lv-view').toDataURL()"),
    }


def test_two_sentences_for_one_scene_make_the_robot_do_two_things(run_page: Any) -> None:
    runs = {
        name: carry_out(run_page, f"put the {name} in the red bowl")
        for name in ("yellow ball", "blue cylinder")
    }
    for name, run in runs.items():
        assert "scripted expert" in run["agent"]
        assert run["frames"] >= 20
        assert run["events"][-1] == "success"
        assert "wrong_object" not in run["events"]
        assert f"put the {name} in the red bowl" in run["note"]
    assert runs["yellow ball"]["last"] != runs["blue cylinder"]["last"]


def test_a_suggestion_runs_when_it_is_pressed(run_page: Any) -> None:
    chip = run_page.locator("#chips button").nth(1)
    sentence = chip.inner_text()
    chip.click()
    wait_for_phase(run_page, "live")
    assert run_page.input_value("#instruction textarea") == sentence
    wait_for_phase(run_page, "success", "failure")
    assert "success" in run_page.get_attribute(LIVE, "data-events")


def test_stop_frees_the_simulator_and_says_how_far_it_came(run_page: Any, served: Served) -> None:
    run_page.fill("#instruction textarea", "put the purple ball in the green bowl")
    run_page.click("#run")
    wait_for_phase(run_page, "live")
    run_page.click("#stop", timeout=10_000)
    wait_for_phase(run_page, "stopped")
    assert "Stopped after" in run_page.inner_text(".lv-note")
    assert served.simulators.busy == 0


def test_leaving_the_page_frees_the_simulator(run_page: Any, served: Served) -> None:
    run_page.fill("#instruction textarea", "put the purple ball in the green bowl")
    run_page.click("#run")
    wait_for_phase(run_page, "live")
    run_page.goto("about:blank")
    for _ in range(100):
        if served.simulators.busy == 0:
            break
        run_page.wait_for_timeout(100)
    assert served.simulators.busy == 0


def test_a_sentence_that_is_not_understood_is_answered_with_one_that_is(run_page: Any) -> None:
    run_page.fill("#instruction textarea", "zarf the yellow ball in the red bowl")
    run_page.press("#instruction textarea", "Enter")
    run_page.wait_for_selector("#complaint >> text=zarf")
    run_page.click("#proposal >> text=put the yellow ball in the red bowl")
    wait_for_phase(run_page, "success", "failure")
    assert "success" in run_page.get_attribute(LIVE, "data-events")
    assert not run_page.is_visible("#complaint")


@pytest.mark.usefixtures("size")
def test_the_first_press_of_run_runs(run_page: Any) -> None:
    sentence = run_page.input_value("#instruction textarea")
    assert sentence
    run_page.click("#run")
    wait_for_phase(run_page, "success", "failure")
    assert run_page.inner_text(".lv-instruction") == f"“{sentence}”"


def test_an_instruction_that_cannot_be_accepted_is_refused_beside_its_field(
    run_page: Any,
) -> None:
    for text, said in (("", "no instruction"), ("x" * 201, "201 characters"), ("a\u0007b", "0007")):
        run_page.fill("#instruction textarea", text)
        run_page.click("#run")
        run_page.wait_for_selector(f"#complaint >> text={said}")
    run_page.fill("#seed input", "200000")
    run_page.wait_for_selector("#complaint >> text=whole number")


def test_another_scene_has_other_suggestions(run_page: Any) -> None:
    before = run_page.locator("#chips button").all_inner_texts()
    run_page.click("#new-scene")
    run_page.wait_for_function(
        "before => document.querySelector('#chips button').innerText !== before", arg=before[0]
    )
    assert 0 <= int(run_page.input_value("#seed input")) < 100_000


def test_a_killed_simulator_is_reported_and_the_next_click_works(
    run_page: Any, served: Served
) -> None:
    run_page.fill("#instruction textarea", "put the purple ball in the green bowl")
    run_page.click("#run")
    wait_for_phase(run_page, "live")
    for pid in served.simulators.processes:
        os.kill(pid, signal.SIGKILL)
    wait_for_phase(run_page, "error")
    assert "SIGKILL" in run_page.inner_text(".lv-note")
    run_page.click("#run")
    wait_for_phase(run_page, "success", "failure")
    assert "success" in run_page.get_attribute(LIVE, "data-events")


def test_a_finished_episode_has_a_card_and_a_link_that_opens_it(
    run_page: Any, served: Served
) -> None:
    run_page.locator("#chips button").nth(3).click()
    run_page.wait_for_selector(".result-card[data-run]")
    run_id = run_page.get_attribute(".result-card[data-run]", "data-run")
    facts = run_page.inner_text(".rc-facts")
    assert "expert" in facts
    assert "95 % interval" in facts
    sentence = run_page.inner_text(".rc-sentence")
    run_page.goto(f"{served.url}?run={run_id}")
    run_page.wait_for_selector(f".result-card[data-run='{run_id}']")
    assert run_page.inner_text(".rc-sentence") == sentence
    assert run_page.inner_text(".rc-facts") == facts
    film = run_page.get_attribute(".rc-download", "href")
    steps = int(run_page.get_attribute(LIVE, "data-step"))
    with av.open(io.BytesIO(base64.b64decode(film.split("base64,")[1]))) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert len(list(container.decode(video=0))) > steps
    wait_for_phase(run_page, "recording")
    run_page.click("#run")
    wait_for_phase(run_page, "success")
    assert run_page.inner_text(".lv-note") == sentence


def test_a_recording_plays_until_something_is_run(run_page: Any) -> None:
    assert run_page.inner_text(".lv-phase") == "recording"
    run_page.wait_for_function(RECORDING_SHOWS)
    run_page.evaluate(
        """live => {
            const element = document.querySelector(live);
            const picture = () => element.querySelector('.lv-view').toDataURL();
            window.recorded = picture();
            new MutationObserver((_, observer) => {
                if (element.dataset.phase !== 'live') return;
                window.first_live = picture();
                observer.disconnect();
            }).observe(element, { attributeFilter: ['data-phase'] });
        }""",
        LIVE,
    )
    run_page.locator("#chips button").first.click()
    wait_for_phase(run_page, "live")
    assert not run_page.is_visible(".lv-video")
    # "live" must never stand over what was recorded.
    assert run_page.evaluate("window.first_live !== window.recorded")


def test_a_link_to_an_episode_that_is_not_there_says_so(run_page: Any, served: Served) -> None:
    run_page.goto(f"{served.url}?run=../../etc/passwd")
    run_page.wait_for_selector("#complaint >> text=no such stored episode")


def test_a_link_to_a_scene_opens_it_with_its_instruction(run_page: Any, served: Served) -> None:
    run_page.goto(f"{served.url}?task=stack&seed=3")
    wait_for_phase(run_page, "still")
    # Nobody acts yet.
    assert run_page.inner_text(".lv-agent") == ""
    assert run_page.input_value("#seed input") == "3"
    sentence = run_page.locator("#chips button").first.inner_text()
    run_page.goto(f"{served.url}?task=stack&seed=3&instruction={sentence}")
    wait_for_phase(run_page, "still")
    assert run_page.input_value("#instruction textarea") == sentence
    run_page.goto(f"{served.url}?task=stack&seed=x")
    run_page.wait_for_selector("#complaint >> text=whole number")


def test_visitors_are_told_their_places_in_the_line_and_are_served(
    run_page: Any, served: Served, browser: Any
) -> None:
    context = browser.new_context()
    other = context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(served.url)
    other.wait_for_selector(LIVE)
    somebody = served.simulators.queue.join("somebody who holds the only simulator")
    try:
        run_page.locator("#chips button").nth(0).click()
        wait_for_phase(run_page, "waiting")
        assert "You are next" in run_page.inner_text(".lv-note")
        other.locator("#chips button").nth(1).click()
        wait_for_phase(other, "waiting")
        assert "You are number 2" in other.inner_text(".lv-note")
    finally:
        somebody.leave()
    wait_for_phase(run_page, "success")
    wait_for_phase(other, "success")
    context.close()
