"""The viewer in a browser, told what it shows by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inspection.examples import POLICY, still_episode
from vlm4vla.inspection.bundle import Bundle, started
from vlm4vla.inspection.explanation import Explanation
from vlm4vla.inspection.kinds import MapKind
from vlm4vla.inspection.offline import offline_page
from vlm4vla.inspection.payload import payload
from vlm4vla.inspection.shelf import Bundles

LAYERS = 3
ATTENTION = MapKind("gripper", "attention")
ADDRESS = "http://localhost/inspect"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    episode = still_episode(np.tile([0.1, 0, 0, 0, 0, 0, 1.0], (12, 1)), agent=POLICY)
    layers = np.linspace(0, 1, LAYERS * 64).reshape(LAYERS, 8, 8)
    one = Explanation(0, layers.mean(0), ("go",), np.ones(1), np.ones(1), 0.0, layers)
    return replace(started(episode, Bundles(tmp_path), ATTENTION), maps={ATTENTION: (one,)})


def show(page: Any, value: dict[str, Any], query: str = "") -> list[str]:
    """Opens the viewer as the app does; gives what its script complains about."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    text = offline_page(value | {"address": "./"})
    page.route(f"{ADDRESS}*", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(f"{ADDRESS}{query}")
    page.wait_for_selector("#viewer[data-ready]")
    return complaints


def go_to_the_start(page: Any) -> None:
    page.focus(".iv-slider")
    page.keyboard.press("Home")
    page.wait_for_selector("#viewer[data-step='0']")


def test_arrows_on_the_layer_change_the_layer_and_not_the_step(page: Any, bundle: Bundle) -> None:
    complaints = show(page, payload(bundle))
    go_to_the_start(page)
    page.focus(".iv-layer")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('layer=1')")
    assert page.get_attribute("#viewer", "data-step") == "0"
    assert page.inner_text(".iv-which") == f"layer 2 of {LAYERS}"
    page.focus(".iv-slider")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#viewer[data-step='1']")
    assert complaints == []


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("1", f"layer 2 of {LAYERS}"),
        ("1.5", f"all {LAYERS} layers"),
        ("abc", f"all {LAYERS} layers"),
        ("-2", f"all {LAYERS} layers"),
        (str(LAYERS), f"all {LAYERS} layers"),
    ],
)
def test_a_layer_that_there_is_not_is_all_of_them(
    page: Any, bundle: Bundle, asked: str, shown: str
) -> None:
    complaints = show(page, payload(bundle), f"?layer={asked}")
    go_to_the_start(page)
    page.wait_for_selector("#viewer[data-painted]")
    page.wait_for_function("location.search.includes('t=0')")
    assert page.inner_text(".iv-which") == shown
    assert ("layer=" in page.url) == shown.startswith("layer")
    assert complaints == []


def test_a_branch_without_an_address_is_drawn_and_not_linked(page: Any, bundle: Bundle) -> None:
    value = payload(bundle, bundle)
    complaints = show(page, value | {"ghost": value["ghost"] | {"id": ""}}, "?ghost=0123")
    page.wait_for_function("location.search.includes('run=')")
    assert "Branch at step" in page.inner_text(".iv-paths")
    assert page.locator(".iv-paths a").count() == 0
    assert "ghost" not in page.url
    assert complaints == []
