"""The live map on the Run page: over what the model sees, in the address, off by default."""

from pathlib import Path
from typing import Any

import pytest

from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import LIVE, PATIENCE, serve, wait_for_phase
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.attribution.worth import NOT_MEASURED
from vlm4vla.live.maps import EXPERT_HAS_NONE

MAPPED = "document.querySelector('.lv-map').innerText"


def test_it_lies_over_the_picture_and_goes_again(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: Path
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    with serve(FakeSimulators(), AgentCatalogue(roots=(checkpoints,))) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}?task=pick&seed=4")
        page.wait_for_selector(LIVE)
        wait_for_phase(page, "still")
        assert page.is_checked("#map input[value='']")
        page.click("#map label:has-text('gradient')")
        page.wait_for_function("location.search.includes('map=gradient')")
        page.click("#run")
        page.wait_for_selector(".result-card[data-run]")
        # The last picture keeps its map.
        assert page.get_attribute(LIVE, "data-cells") == "64"
        said = page.inner_text(".lv-map")
        assert said.startswith("Over what it saw at step 4: gradient times input")
        assert NOT_MEASURED in said
        # A finger does not hover: the cell that it touches is told below.
        assert page.inner_text(".lv-cell") == ""
        box = page.locator(".lv-eye").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 4.5 / 8, box["y"] + box["height"] * 1.5 / 8)
        told = page.inner_text(".lv-cell")
        assert told.startswith("Tapped: row 2, column 5, ") and told.endswith(" mm")
        assert told.endswith(page.get_attribute(".lv-eye", "title"))
        page.click("#map label:has-text('off')")
        page.wait_for_function("!location.search.includes('map=')")
        page.click("#run")
        page.wait_for_selector(".live-view[data-cells='0'][data-phase='success']")
        assert page.inner_text(".lv-map") == page.inner_text(".lv-cell") == ""


def test_the_expert_has_none_and_the_address_chooses_one(
    page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}?task=pick&seed=4&map=occlusion")
        page.wait_for_selector(LIVE)
        wait_for_phase(page, "still")
        assert page.is_checked("#map input[value='occlusion']")
        page.click("#run")
        page.wait_for_function(f"{MAPPED} !== ''")
        assert page.inner_text(".lv-map") == EXPERT_HAS_NONE
