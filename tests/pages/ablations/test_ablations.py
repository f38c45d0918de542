"""The Ablations page: the matrix, its sentence, the episodes of a cell; nothing is simulated."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.ablation.test_matrix import AGENT, put
from tests.episodes.examples import EVALUATION
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.ablations.test_papers import drawn
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.ablation.matrix import PICTURE_ROWS, SENTENCE_COLUMNS, condition_of
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.labelling import Query, label_missing, summarise


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
        put(table, condition_of(perturbation("skip-vision-layer", {"layer": 2})), range(8), 3)
        with serve(FakeSimulators(places=2, lasts=12), Known()) as url:
            yield f"{url}ablations"


class Known(FakeCatalogue):
    """One policy by the name that the episodes have, and the expert."""

    def __init__(self) -> None:
        super().__init__("policy")

    def names(self) -> list[str]:
        return ["tiny", "expert"]

    def entry(self, name: object) -> Any:
        return super().entry("expert")


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
    links = page.locator(".ab-episodes li > a:first-child")
    assert links.count() == 20
    assert links.first.get_attribute("href").startswith("inspect?run=")
    assert "-75 points" in page.inner_text("#ablation-cell")
    # However many there are, Failures has them all, page by page.
    href = page.get_attribute("#ablation-cell .ab-all", "href")
    asked = {name: value for name, [value] in parse_qs(urlsplit(href).query).items()}
    assert asked["agent"] == AGENT and asked["kind"] == asked["label"] == "all"
    table = EpisodeTable()
    label_missing(table)
    assert summarise(table, Query.from_address(asked)).total == 20
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
    # Between two cells stands the link that runs the first live.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ablation-cell .ab-episodes")
    page.wait_for_function("location.search.includes('cell=0-1')")


def asked_of(link: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(link).query).items()}


def test_a_cell_runs_live_beside_the_intact_policy(page: Any, address: str) -> None:
    opened(page, address)
    link = page.locator("td:has([data-cell='1-1']) .ab-live")
    found = asked_of(link.get_attribute("href"))
    assert (found["live_a"], found["live_b"]) == ("tiny", "tiny")
    assert found["change_b"] == "picture-blank sentence-empty"
    # The first scene that the intact policy does and this one does not: it does two.
    assert (found["scene_task"], found["scene_seed"]) == ("pick", "2")
    # What was not run has no such scene, and runs in the first.
    unknown = asked_of(page.get_attribute("td:has([data-cell='2-3']) .ab-live", "href"))
    assert (unknown["change_b"], unknown["scene_seed"]) == ("picture-other sentence-order", "0")
    beside = page.get_attribute("td:has([data-cell='0-0']) .ab-live", "href")
    assert asked_of(beside)["live_b"] == "expert" and "change_b" not in asked_of(beside)
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".duet[data-phase=over]")
    assert page.inner_text("#duet [data-side=b] .du-told") == "It sees this, and is told nothing."
    told = page.inner_text("#duet [data-side=a] .du-told")
    assert told == f"It sees this, and is told “{found['say']}”."
    # What it chose stays in the address; that it was to begin at once does not.
    page.wait_for_function("!location.search.includes('start=')")
    assert asked_of(page.url).items() >= {k: v for k, v in found.items() if k != "start"}.items()
    kept = EpisodeTable().query(Filter(kind="live"))
    assert {one.spec.condition.label for one in kept} == {
        "",
        "picture-blank (level 128), sentence-empty",
    }


def test_a_point_of_a_chart_opens_its_episodes(page: Any, address: str) -> None:
    opened(page, f"{address}?policy={AGENT}")
    page.click("#parts .ab-point:has-text('vision layer 2')")
    page.wait_for_selector("#point .ab-episodes")
    assert asked_of(page.url)["point"] == "skip-vision-layer layer=2"
    assert page.locator("#point .ab-episodes li").count() == 8
    # 8 of 8 without it, 3 with it; what is skipped inside a policy is not run live.
    assert "-62 points" in page.inner_text("#point")
    assert page.locator("#point .ab-live").count() == 0
    # The chart itself can be pressed, too.
    page.wait_for_selector("#curve-picture-blur .js-plotly-plot[data-heard]")
    mark = page.locator("#curve-picture-blur .scatterlayer .point").last
    # Plotly knows what is pressed from what the pointer was over.
    mark.hover(force=True)
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#curve-picture-blur #point .ab-episodes")
    assert asked_of(page.url)["point"] == "picture-blur sigma=3.0"
    assert page.locator("#point .ab-episodes .ab-live").count() == 20


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious_is_found_in_any_look(browser: Any, address: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = opened(context.new_page(), f"{address}?cell=0-1")
    page.wait_for_selector("#ablation-cell .ab-episodes")
    page.wait_for_selector("#curve-picture-blur .js-plotly-plot")
    drawn(page)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for pressed in ("[data-cell='0-1']", "[data-cell='0-1'] + .ab-live", "#parts .ab-point"):
        box = page.locator(pressed).first.bounding_box()
        assert min(box["width"], box["height"]) >= 44
    if look == "narrow":
        page.tap("[data-cell='0-2']")
        page.wait_for_function("location.search.includes('cell=0-2')")
        page.tap("#parts .ab-point")
        page.wait_for_selector("#point .ab-episodes")
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
