"""The studies on the Ablations page, on a table made by hand."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.episodes.examples import EVALUATION, example
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.ablations.test_papers import drawn
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.files import write_json
from vlm4vla.studies.measures import CKA, OF_CELL, Measured, Row
from vlm4vla.studies.registry import STUDIES
from vlm4vla.studies.trained import FILE, folder_of

CELLS = {
    (one.level, one.cell.start.family, one.cell.seed): one.cell
    for one in STUDIES["modules"].members
}
WHOLE, FROZEN = CELLS["all", "qwen3-vl", 0], CELLS["vision frozen", "qwen3-vl", 0]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM4VLA_HOME", str(tmp_path_factory.mktemp("studies")))
        entries = []
        for cell, successes in ((WHOLE, 75), (FROZEN, 25)):
            for task in cell.tasks:
                for seed in cell.scenes.seeds:
                    outcome = "success" if seed < successes else "dropped"
                    one = example(seed, steps=2, task=task, outcome=outcome, agent=cell.name)
                    entries.append(Entry(one, (Membership("study", cell.name),)))
        # An example's agent has the cell's name for a digest.
        told = {"name": FROZEN.name, "agent": FROZEN.name, "parameters": {}}
        write_json(folder_of(FROZEN) / FILE, told)
        row = Row(CKA, "vision 4", "", 0.5, None, None, 300, None)
        found = Measured(FROZEN.name, FROZEN.name, "pictures", "command", 60.0, (row,))
        found.write(folder_of(FROZEN) / OF_CELL)
        # Somebody whose matrix stands above.
        entries.append(Entry(example(500), (EVALUATION,)))
        EpisodeTable().put_all(entries)
        with serve(FakeSimulators(), FakeCatalogue()) as url:
            yield f"{url}ablations"


def opened(page: Any, address: str) -> Any:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#study-modules .st-table")
    page.wait_for_selector("#ablation .ab-matrix")
    return page


def test_a_study_says_what_ran_and_what_did_not(page: Any, address: str) -> None:
    opened(page, address)
    said = page.inner_text("#study-modules")
    # One training seed: 75 - 25 % on 200 scenes.
    assert "vision frozen against all: -50 points in 1 of the training seeds" in said
    assert "these two policies differ" in said
    assert "● 150 of 200" in said and "● 50 of 200" in said
    assert page.locator("#study-modules .st-hollow").count() == 24
    # One family of two ran, and of it two levels of five: the others fold into a line.
    more = page.locator("#study-modules .st-more")
    assert more.inner_text() == "○ 8 of 10 rows not run"
    assert "no number" not in said
    more.locator("summary").click()
    said = page.inner_text("#study-modules")
    frozen = page.locator("#study-modules tr", has_text="vision frozen, qwen3-vl").inner_text()
    assert "◇ lower (6 of 6 lower), paper Table 3" in frozen
    assert "◇ both ways (5 of 6 lower)" in said and "no number" in said
    # The same cell in the other study, of which nothing else ran.
    assert "● 150 of 200" in page.inner_text("#study-initialisation")
    assert "Not run yet" in page.inner_text("#study-initialisation")
    page.click("#study-initialisation summary")
    assert "quoted by others only" in page.inner_text("#study-initialisation")
    predicted = page.inner_text("#predictors")
    assert "declared, probe of projector for named" in predicted
    assert "n is too small" in predicted
    assert "exploratory, probe" not in predicted
    # Its policies are not among those that can be perturbed.
    page.click("#ablation-policy input")
    assert page.locator("#ablation-policy [role=option]").count() == 1


def test_links_at_the_top_lead_to_every_part_and_stay_in_sight(page: Any, address: str) -> None:
    opened(page, address)
    links = page.locator(".ab-contents a")
    places = [one.get_attribute("href").removeprefix("ablations") for one in links.all()]
    studies = [f"#study-{name}" for name in STUDIES]
    assert places == [
        "#ablation", "#curves", "#parts", "#paper-studies", *studies, "#predictors", "#paper",
    ]  # fmt: skip
    drawn(page)
    for place in ("#study-modules", "#curves"):
        page.click(f".ab-contents a[href='ablations{place}']")
        page.wait_for_function(
            "place => Math.abs(document.querySelector(place).getBoundingClientRect().top - 56) < 9",
            arg=place,
        )
        assert page.locator("#ablation-contents").bounding_box()["y"] == pytest.approx(0, abs=1)
        assert page.url.endswith(place)
    # A link that somebody passed on opens there as well, though it is drawn late.
    page.goto("about:blank")
    opened(page, f"{address}#predictors")
    page.wait_for_function(
        "document.querySelector('#predictors').getBoundingClientRect().top < innerHeight"
    )


def test_a_cell_that_was_not_run_is_unfolded_when_it_is_asked_for(page: Any, address: str) -> None:
    missing = CELLS["embeddings frozen", "internvl", 0]
    opened(page, f"{address}?study-cell={missing.name}#study-cell")
    assert page.is_visible("#study-modules .st-point[aria-current]")
    assert page.inner_text("#study-cell").count("not run") == 1


def test_a_point_opens_its_episodes(page: Any, address: str) -> None:
    opened(page, address)
    page.locator("#study-modules .st-point", has_text="50 of 200").last.click()
    page.wait_for_selector("#study-cell .ab-episodes")
    # Beside the policy, which the matrix writes into the address.
    page.wait_for_function("location.search.includes('policy=')")
    assert f"study-cell={FROZEN.name}" in page.url
    # It is where the reader looks.
    page.wait_for_function(
        "document.querySelector('#study-cell').getBoundingClientRect().top < innerHeight"
    )
    links = page.locator("#study-cell .ab-episodes a")
    assert links.count() == 200
    assert links.first.get_attribute("href").startswith("inspect?run=")
    told = page.inner_text("#study-cell")
    assert "pick 25 of 100 (95 % 18 to 34 %)" in told
    assert "learned: language, embeddings, projector, head" in told
    assert "Measured: CKA of vision 4 with its start is 0.50." in told
    assert f"vlm4vla study run modules --cells {FROZEN.name} --data CACHE" in told
    page.goto(f"{address}?study-cell=nonsense")
    page.wait_for_selector("#study-modules .st-table")
    assert page.locator("#study-cell").count() == 0


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious_is_found_in_any_look(browser: Any, address: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = opened(context.new_page(), f"{address}?study-cell={WHOLE.name}")
    page.wait_for_selector("#study-cell .ab-episodes")
    drawn(page)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if look == "narrow":
        page.locator("#study-modules .st-point", has_text="50 of 200").last.tap()
        page.wait_for_function(
            "name => location.search.includes(`study-cell=${name}`)", arg=FROZEN.name
        )
    context.close()
