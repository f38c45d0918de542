"""The Encoders page, over what is shipped."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages.encoders.page import answer
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import page_without_errors, serve
from tests.pages.test_access import LOOKS
from vlm4vla.representations.results import SHIPPED, read_cka, read_probes
from vlm4vla.representations.summary import encoders


def test_what_is_shipped_is_whole_and_names_its_command() -> None:
    rows, pairs = read_probes(), read_cka()
    known = encoders(rows)
    assert "qwen3vl-tiny" in known and len(known) >= 2
    for name in known:
        own = [row for row in rows if row.checkpoint == name]
        assert len({row.digest for row in own}) == 1
        assert len({row.layer for row in own if row.reads}) == 1
    assert all(row.low <= row.value <= row.high for row in rows)
    assert all("vlm4vla represent" in row.command for row in [*rows, *pairs])
    assert {(pair.a, pair.b) for pair in pairs} >= {(name, name) for name in known}
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.parquet")) < 2**20


def test_an_address_is_followed_and_mended() -> None:
    said, target, *_, address = answer(SHIPPED, {})
    assert "Where the action head reads, qwen3vl-tiny knows where the object" in said
    assert target.value == address["target"] == "named"
    other = {"target": "closed", "probe": "attentive", "encoders": "vlm-init,nobody", "up": "x"}
    said, target, *_, address = answer(SHIPPED, other)
    assert "vlm-init tells whether the gripper is closed" in said
    assert address["encoders"] == "vlm-init" and address["probe"] == "attentive"
    turned = answer(SHIPPED, {"up": "vlm-init", "right": "qwen3vl-tiny"})
    straight = answer(SHIPPED, {"up": "qwen3vl-tiny", "right": "vlm-init"})
    assert turned[-3].visible and "cka.csv" in turned[-2]
    assert turned[-2] != straight[-2]


def test_nothing_says_what_to_do(tmp_path: Path) -> None:
    assert "vlm4vla represent" in answer(tmp_path, {})[0]


def test_it_needs_no_torch() -> None:
    code = (
        "import sys\nfrom pages.encoders.page import answer\n"
        "from vlm4vla.representations.results import SHIPPED\nanswer(SHIPPED, {})\n"
        "assert not {'torch', 'sapien', 'mani_skill'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        yield url


FETCHED = """performance.getEntriesByType('resource').map((one) => one.name.split('/').pop())
    .filter((name) => /^(Plotly)?Plot-.*[.]js$/.test(name)).map((name) => name.split('-')[0])"""


def test_plots_menus_and_the_address_in_a_browser(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}encoders")
        page.wait_for_selector("#encoder-cka .main-svg")
        page.wait_for_selector("#encoder-curves .main-svg")
        # What draws charts is asked for once, and before Gradio has one to draw.
        assert page.evaluate(FETCHED) == ["PlotlyPlot", "Plot"]
        page.click("text=how high the gripper is")
        page.wait_for_function("location.search.includes('target=height')")
        assert "how high the gripper is" in page.inner_text("#encoder-answer")
        page.reload()
        page.wait_for_selector("#encoder-curves .main-svg")
        assert "how high the gripper is" in page.inner_text("#encoder-answer")
