"""The object that one moves on the Encoders page, over what is shipped."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from pages.encoders.drag import section
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import page_without_errors, serve
from tests.pages.test_access import LOOKS
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.representations.drag import FILE, read_drag
from vlm4vla.representations.results import SHIPPED, read_probes

READY = ".encoder-drag[data-ready]"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        yield url


def test_what_is_shipped_is_of_the_shipped_policies_and_names_its_command(address: str) -> None:
    found = read_drag()
    assert found is not None and (SHIPPED / FILE).stat().st_size < 3 * 2**20
    catalogue = AgentCatalogue()
    digests = {one["name"]: one["digest"] for one in found["encoders"]}
    followed = digests.keys() & set(catalogue.names())
    assert followed >= {"qwen3vl-tiny", "internvl-tiny", "paligemma-tiny"}
    for name in followed:
        assert digests[name] == catalogue.evaluation(name)["checkpoint"]
    assert all(name in found["command"] for name in (*digests, "--drag"))
    # The scene is none of those that probes are fitted to or judged by.
    assert found["seed"] >= found["scenes"]
    with urllib.request.urlopen(f"{address}representations/drag.json", timeout=30) as sent:
        assert json.load(sent) == found


def test_the_probe_is_about_as_good_as_the_table_of_probes_says() -> None:
    found = read_drag()
    assert found is not None
    for encoder in found["encoders"]:
        rows = [
            row
            for row in read_probes()
            if (row.digest, row.target, row.probe) == (encoder["digest"], "named", "linear")
        ]
        for row in rows:
            [layer] = [one for one in encoder["layers"] if one["name"] == row.layer]
            mean = sum(layer["off"]) / len(layer["off"])
            assert 0.3 * row.value < mean < 2 * row.value


def place(page: Any) -> int:
    return int(page.get_attribute(READY, "data-place"))


def test_mouse_keys_and_the_address(browser: Any, address: str) -> None:
    found = read_drag()
    assert found is not None
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}encoders?target=height&drag-layer=projector")
        page.wait_for_selector(READY)
        page.wait_for_selector("#encoder-curves .main-svg")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        stage = page.locator(".dr-stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert place(page) == 0
        # From where it is to the last place, through many others.
        ends = [found["at"][0], found["at"][-1]]
        (x0, y0), (x1, y1) = [
            (box["x"] + box["width"] * u, box["y"] + box["height"] * v) for u, v in ends
        ]
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1, steps=8)
        page.mouse.up()
        last = len(found["at"]) - 1
        assert place(page) == last
        layer = next(one for one in found["encoders"][0]["layers"] if one["name"] == "projector")
        assert f"{layer['off'][last]:.1f} cm from where it is" in page.inner_text(".dr-told")
        assert page.locator(".dr-cells rect").count() == layer["side"] ** 2
        before = found["at"][last]
        page.keyboard.press("ArrowLeft")
        after = found["at"][place(page)]
        assert after[0] < before[0] and abs(after[1] - before[1]) < 0.05
        page.keyboard.press("ArrowUp")
        assert found["at"][place(page)][1] < after[1]
        page.click(".dr-layers button >> nth=-1")
        name = found["encoders"][0]["layers"][-1]["name"]
        assert f"At {name} of" in page.inner_text(".dr-told")
        other = found["encoders"][1]["name"]
        page.click(f".dr-encoders button:has-text('{other}')")
        assert asked == []
        page.wait_for_function(
            "words => location.search.includes(words)", arg=f"drag-encoder={other}"
        )
        assert "target=height" in page.url
        kept = place(page)
        page.reload()
        page.wait_for_selector(READY)
        assert place(page) == kept and f"of {other}" in page.inner_text(".dr-told")
        page.focus(".dr-stage")
        page.keyboard.press("Home")
        assert place(page) == 0


def test_a_finger_moves_it(browser: Any, address: str) -> None:
    found = read_drag()
    assert found is not None
    with page_without_errors(browser, LOOKS["narrow"]) as page:
        page.goto(f"{address}encoders")
        page.wait_for_selector(READY)
        # The chart above it pushes it down as it is drawn.
        page.wait_for_selector("#encoder-curves .main-svg")
        stage = page.locator(".dr-stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        u, v = found["at"][-1]
        stage.tap(position={"x": box["width"] * u, "y": box["height"] * v})
        assert place(page) == len(found["at"]) - 1
        small = page.locator(".dr :is(button, .dr-show):visible").evaluate_all(
            "all => all.filter(one => one.offsetHeight < 44).map(one => one.outerHTML)"
        )
        assert small == []


def test_where_nothing_was_followed_it_says_what_to_do(tmp_path: Any) -> None:
    import gradio as gr

    with gr.Blocks() as page:
        section(tmp_path)
    values = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert "vlm4vla represent" in values[0]["problem"]
