"""Several backbones in the menu of the Run page, each told a sentence of a person's own words."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.live import fake_simulators
from tests.live.fake_simulators import FakeSimulators
from tests.pages.conftest import PATIENCE, serve, wait_for_phase
from vlm4vla.agents.catalogue import SHIPPED, AgentCatalogue

MOST = 3
BROAD = "would you kindly lift the orange cylinder"
"""No sentence that training holds: it has to be understood."""


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins of two more families, for a clone that ships one policy alone."""
    from vlm4vla.model.policy import Policy

    folder = tmp_path_factory.mktemp("checkpoints")
    for family in ("internvl", "kosmos-2"):
        Policy.from_vlm(f"{family}:tiny").save_pretrained(folder / f"zz-{family}")
    return folder


def run_with(page: Any, name: str) -> None:
    """Picks who acts as a person who cannot use a mouse, says a sentence, and presses Run."""
    agent, sentence = page.locator("#agent input"), page.locator("#instruction textarea")
    agent.fill("")
    agent.press_sequentially(f"{name} ")
    # Enter takes what the list holds by then: on a busy machine, not yet what was typed.
    page.wait_for_function("document.querySelectorAll('#agent [role=option]').length === 1")
    agent.press("Enter")
    page.wait_for_selector("[role=listbox]", state="detached")
    sentence.fill("")
    sentence.press_sequentially(BROAD)
    page.wait_for_selector(".rl >> text=Understood: pick up the orange cylinder")
    assert agent.input_value().startswith(f"{name} ")
    page.click("#run")
    page.wait_for_function(
        "name => document.querySelector('.result-card[data-run] .rc-facts')"
        "?.innerText.includes(`${name}, hash`)",
        arg=name,
    )


def test_each_backbone_carries_out_a_broad_sentence(
    page: Any, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_simulators, "SIDES", {"policy": 128, "view": 64})
    catalogue = AgentCatalogue(roots=(SHIPPED, untrained))
    *policies, expert = catalogue.names()
    chosen = policies[:MOST]
    assert len({catalogue.facts(name).family for name in chosen}) == MOST
    page.set_default_timeout(PATIENCE)
    with serve(FakeSimulators(), catalogue) as url:
        page.goto(f"{url}?task=pick&seed=0")
        wait_for_phase(page, "still")
        page.click("#agent input")
        options = page.locator("[role=option]").all_inner_texts()
        assert len(options) == len(policies) + 1
        for name, option in zip(policies, options, strict=False):
            known = catalogue.facts(name)
            assert f"VLM {known.family}, " in option and "M parameters" in option
            assert re.search(r"\d+ of \d+ \(95 % \d+ to \d+ %\)|not evaluated", option)
        assert "No VLM" in options[-1] and expert == "expert"
        page.keyboard.press("Escape")
        for name in chosen:
            run_with(page, name)
            assert page.inner_text(".lv-agent").startswith(f"Acts: {name}, hash ")
            assert "pick up the orange cylinder" in page.inner_text(".rc-facts")
        page.goto("about:blank")
