"""The Ablations page: the matrix, its sentence, the episodes of a cell; nothing is simulated."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ablation.test_matrix import AGENT, put
from tests.episodes.examples import EVALUATION
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.ablation.matrix import PICTURE_ROWS, SENTENCE_COLUMNS, condition_of
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM4VLA_HOME", str(tmp_path_factory.mktemp("ablations")))
        table = EpisodeTable()
        put(table, Condition(), range(20), 19, membership=EVALUATION)
        put(table, condition_of(SENTENCE_COLUMNS[1]), range(20), 4)
        put(table, condition_of(SENTENCE_COLUMNS[2]), range(20), 1, told=18)
        put(table, condition_of(PICTURE_ROWS[1], SENTENCE_COLUMNS[1]), range(20), 2)
        put(table, condition_of(perturbation("picture-blur", {"sigma": 3.0})), range(20), 9)
        with serve(FakeSimulators(), FakeCatalogue()) as url:
            yield f"{url}ablations"


def opened(page: Any, address: str) -> Any:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#ablation .ab-matrix")
    return page


def test_the_first_screen_says_what_the_numbers_say(page: Any, address: str) -> None:
    opened(page, address)
    said = page.inner_text(".ab-said")
    assert "Without the sentence it falls from 95 to 20 %: it reads it." in said
    assert "With neither, 10 % is left" in said
    cell = page.inner_text("[data-cell='0-1']")
    # Wilson by hand for 4 of 20: 8.1 to 41.6 %.
    assert "20 %" in cell and "4 of 20 (8 to 42 %)" in cell
    assert page.inner_text("[data-cell='2-3']") == "not run"
    assert "told goal 90 %" in page.inner_text("[data-cell='0-2']")
    assert "2 of 20" in page.inner_text(".ab-legend")
    page.wait_for_selector("#curve-picture-blur .js-plotly-plot")
    assert "--perturb camera degrees=VALUE" in page.inner_text("#curve-camera")
    assert page.locator("#curve-picture-blur .ab-csv").count() == 1


def test_a_press_on_a_cell_lists_its_episodes(page: Any, address: str) -> None:
    opened(page, address)
    page.click("[data-cell='0-1']")
    page.wait_for_selector("#ablation-cell .ab-episodes")
    links = page.locator(".ab-episodes a")
    assert links.count() == 20
    assert links.first.get_attribute("href").startswith("inspect?run=")
    assert "-75 points" in page.inner_text("#ablation-cell")
    page.wait_for_function("location.search.includes('cell=0-1')")
    assert f"policy={AGENT}" in page.url
    # The address is the state.
    page.reload()
    page.wait_for_selector("#ablation-cell .ab-episodes")
    assert page.get_attribute("[data-cell='0-1']", "aria-pressed") == "true"
    # Another task has no episodes; the cell says how to run them.
    page.click("#ablation-task label:has-text('push')")
    page.wait_for_selector("#ablation-cell pre")
    assert "--checkpoint tiny --tasks push --grid picture sentence" in page.inner_text(
        "#ablation-cell"
    )


def test_a_cell_can_be_pressed_by_keyboard(page: Any, address: str) -> None:
    opened(page, address)
    page.focus("[data-cell='0-0']")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ablation-cell .ab-episodes")
    page.wait_for_function("location.search.includes('cell=0-1')")


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious_is_found_in_any_look(browser: Any, address: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = opened(context.new_page(), f"{address}?cell=0-1")
    page.wait_for_selector("#ablation-cell .ab-episodes")
    page.wait_for_selector("#curve-picture-blur .js-plotly-plot")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    box = page.locator("[data-cell='0-1']").bounding_box()
    assert min(box["width"], box["height"]) >= 44
    context.close()


def test_an_empty_table_says_what_to_run(
    page: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        page.set_default_timeout(PATIENCE)
        page.goto(f"{url}ablations?cell=99-1&task=zarf&policy=nobody")
        page.wait_for_selector("#ablation-empty")
        assert "--grid picture sentence" in page.inner_text("#ablation-empty")
