"""The Run page with a policy, which takes any sentence; it has learned nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pages.conftest import LIVE, PATIENCE, Served, serve, wait_for_phase
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.model.checkpoint import checkpoint_hash, record_evaluation

PICK = {"n": 100, "successes": 7, "rate": 0.07, "wrong_object": 0.0, "old_goal_done": 0.0}
EVALUATION = {"first_seed": 0, "tasks": {"pick": PICK}}


@pytest.fixture(scope="module")
def address(served: Served, checkpoints: Path) -> Iterator[str]:
    record_evaluation(checkpoints / "untrained", EVALUATION)
    with serve(served.simulators, AgentCatalogue(roots=[checkpoints])) as url:
        yield url


def open_scene(page: Any, address: str, query: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}?{query}")
    page.wait_for_selector(LIVE)
    wait_for_phase(page, "still")


def test_a_known_sentence_runs_and_failure_is_explained(
    page: Any, address: str, checkpoints: Path
) -> None:
    open_scene(page, address, "task=pick&seed=0")
    # A checkpoint acts to begin with, once there is one.
    assert "untrained" in page.input_value("#agent input")
    page.click("#run")
    wait_for_phase(page, "failure")
    assert "timeout" in page.get_attribute(LIVE, "data-events")
    page.wait_for_selector(".result-card[data-run]")
    facts = page.inner_text(".rc-facts")
    assert checkpoint_hash(checkpoints / "untrained") in facts
    # The evaluation in the checkpoint's manifest counts, not what visitors happen to run.
    assert "7 of 100" in facts
    assert "evaluation that comes with the checkpoint" in facts
    assert page.is_visible("[data-copy=command]")


@pytest.mark.parametrize(
    "sentence",
    ["zarf the blick", "do nothing", "prends le cube rouge", "<script>alert(1)</script>"],
)
def test_nonsense_is_run_and_never_judged(page: Any, address: str, sentence: str) -> None:
    open_scene(page, address, "task=pick&seed=0")
    page.fill("#instruction textarea", sentence)
    page.click("#settings button")
    page.fill("#most-steps input[type=number]", "6")
    page.click("#run")
    wait_for_phase(page, "unjudged")
    assert page.inner_text(".lv-phase") == "not judged"
    assert page.is_visible("#proposal")
    page.wait_for_selector(".result-card[data-run]")
    assert page.inner_text(".rc-title") == "Not judged"
    facts = page.inner_text(".rc-facts")
    assert "Why not judged" in facts
    assert "of 100" not in facts
    # The link says the same.
    page.reload()
    page.wait_for_selector(".result-card[data-run]")
    assert page.inner_text(".rc-title") == "Not judged"
    assert page.inner_text(".rc-facts") == facts


def test_about_shows_what_the_checkpoint_was_measured_at(page: Any, address: str) -> None:
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}about")
    page.wait_for_selector("#measured >> text=untrained")
    # Wilson's interval of 7 of 100.
    assert "7 of 100 (3 to 14 %)" in page.inner_text("#measured")
    assert "not measured" in page.inner_text("#measured")


def test_settings_shorten_an_episode_and_come_back_with_its_link(page: Any, address: str) -> None:
    open_scene(page, address, "task=pick&seed=1")
    page.click("#settings button")
    page.fill("#most-steps input[type=number]", "9")
    page.click("#execute label >> text='2'")
    page.locator("#chips button").first.click()
    wait_for_phase(page, "failure")
    assert page.get_attribute(LIVE, "data-step") == "9"
    page.wait_for_selector(".result-card[data-run]")
    assert "at most 9 steps, 2 actions an inference" in page.inner_text(".rc-facts")
    sentence = page.inner_text(".rc-sentence")
    assert "run=" in page.url
    page.reload()
    page.wait_for_selector(".result-card[data-run]")
    page.click("#settings button")
    page.wait_for_function("document.querySelector('#most-steps [type=number]')?.value === '9'")
    page.click("#run")
    wait_for_phase(page, "failure")
    page.wait_for_selector(".result-card[data-run]")
    assert page.inner_text(".rc-sentence") == sentence


def test_the_expert_can_be_chosen_and_is_called_one(page: Any, address: str) -> None:
    open_scene(page, address, "task=pick&seed=2")
    page.click("#agent input")
    page.click("[role=option] >> text=expert")
    page.locator("#chips button").first.click()
    wait_for_phase(page, "success")
    assert "scripted expert" in page.inner_text(".lv-agent")
