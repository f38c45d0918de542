"""Before and after learning to act, over cells that are shipped."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pages.encoders.before_after import CELL, STUDY, TARGET, answer, href_of
from pages.encoders.before_after_plots import overview
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import page_without_errors, serve
from tests.pages.test_access import LOOKS
from vlm4vla.studies import measures, trained
from vlm4vla.studies.before_after import changes
from vlm4vla.studies.registry import STUDIES

SHIPPED = Path(__file__).parents[3] / "assets" / "results"

NAME, START = "14348df89c9f", "352264e0ca1a"
"""qwen3-vl's VLM at 6e-4, training seed 0, which stands in three studies; and its start."""
SCRATCH, NEW = "cc039bdb2c90", "cc32bea4c9ec"
"""The same from scratch."""
FILES = [f"{one}{kind}.json" for one in (NAME, SCRATCH) for kind in ("", "-measures")]
FILES += [f"{one}-start.json" for one in (START, NEW)]


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cells alone are shipped, whatever is measured later."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))
    cells = tmp_path / "cells"
    cells.mkdir()
    for file in FILES:
        shutil.copy(SHIPPED / "cells" / file, cells / file)
    for module in (measures, trained):
        monkeypatch.setattr(module, "SHIPPED", tmp_path)
    return cells


def projector(file: str, concept: str) -> list[float]:
    """Score and ends of the interval, read from a file by hand."""
    rows = json.loads((SHIPPED / "cells" / file).read_text())["rows"]
    [found] = [row for row in rows if row[:3] == ["probe", "projector", concept]]
    return found[3:6]


def figure_of(update: Any) -> dict[str, Any]:
    """What a browser is given."""
    return json.loads(update.value["plot"])


def texts(figure: dict[str, Any]) -> list[str]:
    return [one["text"] for one in figure["layout"]["annotations"]]


def test_the_first_sight_is_a_cell_of_a_grid_and_holds_its_numbers(only: Path) -> None:
    said, cell, target, layers, below, tally, _, _, address = answer({})
    assert address == {TARGET: "named", STUDY: "initialisation", CELL: NAME}
    assert (cell.value, target.value) == (f"initialisation/{NAME}", "named")
    # In the order of the studies: the cell of three of them, and the one from scratch.
    assert [key for _, key in cell.choices] == [
        f"initialisation/{NAME}",
        f"initialisation/{SCRATCH}",
        f"modules/{NAME}",
        f"injection/{NAME}",
    ]
    assert "is to 8.1 cm (95 % 7.6 to 8.6 cm) after training and 9.0 cm" in said
    assert f"study measure --cells {NAME}" in below and "n = 300 answers" in below
    assert "In all 2 measured cells the intervals before and after training overlap." in tally
    figure = figure_of(layers)
    before, after, alike = figure["data"]
    for trace, file in ((after, f"{NAME}-measures.json"), (before, f"{START}-start.json")):
        rows = json.loads((SHIPPED / "cells" / file).read_text())["rows"]
        scores = [row[3] for row in rows if row[0] == "probe" and row[2] == "named"]
        assert [value for value in trace["y"] if value is not None] == scores
        # Lines break where the projector, the picture's tokens and the query begin.
        assert [place for place, value in enumerate(trace["y"]) if value is None] == [7, 9, 14]
        score, low, high = projector(file, "named")
        assert trace["error_y"]["array"][8] == pytest.approx(high - score)
        assert trace["error_y"]["arrayminus"][8] == pytest.approx(score - low)
    assert (before["marker"]["symbol"], before["line"]["dash"]) == ("circle-open", "dash")
    assert (after["marker"]["symbol"], after["line"]["dash"]) == ("circle", "solid")
    rows = json.loads((SHIPPED / "cells" / f"{NAME}-measures.json").read_text())["rows"]
    assert [value for value in alike["y"] if value is not None] == [
        row[3] for row in rows if row[0] == "CKA"
    ]
    assert "lower is better" in figure["layout"]["yaxis"]["title"]["text"]
    assert figure["layout"]["xaxis2"]["ticktext"][7] == "projector"
    assert {"always the mean", "projector"} <= set(texts(figure))
    # The projector's mark and the baseline.
    ends = [(one["x0"], one["y0"]) for one in figure["layout"]["shapes"]]
    assert any(x == 7 for x, _ in ends) and any(y == 11.884 for _, y in ends)


def test_the_overview_has_every_cell_before_and_after_and_leads_to_it(only: Path) -> None:
    *_, cells, listed, _ = answer({TARGET: "closed"})
    figure = figure_of(cells)
    before, after = figure["data"]
    assert (before["marker"]["symbol"], after["marker"]["symbol"]) == ("circle-open", "circle")
    wanted = {NAME: f"{START}-start.json", SCRATCH: f"{NEW}-start.json"}
    names = [NAME, SCRATCH, NAME, NAME]
    for trace, files in (
        (before, [wanted[name] for name in names]),
        (after, [f"{name}-measures.json" for name in names]),
    ):
        known = [projector(file, "closed") for file in files]
        # Per cent, in the order of the studies.
        assert trace["x"] == pytest.approx([100 * score for score, *_ in known])
        assert trace["error_x"]["array"] == pytest.approx([100 * (k[2] - k[0]) for k in known])
        places = [told[1] for told in trace["customdata"]]
        assert places == [f"ablations?study-cell={name}#study-cell" for name in names]
    # Before and after of a cell stand on one line, cells below each other.
    assert before["y"] == after["y"] == sorted(before["y"])
    heads = ["initialisation", "modules", "injection"]
    assert texts(figure)[:7] == [
        "VLM",
        "scratch",
        "all",
        "no tokens, then vision trained",
        *(f"<b>{one}: qwen3-vl at 0.0006</b>" for one in heads),
    ]
    assert "higher is better" in figure["layout"]["xaxis"]["title"]["text"]
    assert listed.count(f'href="ablations?study-cell={NAME}#study-cell"') == 3
    # 0.72561 and 0.76823 of the first one.
    assert "73 % before, 77 % after" in listed


def test_training_seeds_of_a_level_stand_close_together(only: Path) -> None:
    [one] = changes([STUDIES["modules"]], "named")
    alike = [member for member in STUDIES["modules"].members if member.level == "all"]
    figure = overview([replace(one, member=member) for member in alike], href_of)
    # Three training seeds of each family, below a head of its own.
    places = sorted(figure.data[0].y)
    steps = [after - before for before, after in pairwise(places)]
    assert steps == pytest.approx([0.17, 0.17, 1.26, 0.17, 0.17])


def test_an_address_is_followed_and_mended(only: Path) -> None:
    asked = {CELL: SCRATCH, TARGET: "gripper"}
    said, cell, target, *_, address = answer(asked)
    assert "where the gripper is to 6.4 cm" in said and target.value == "gripper"
    assert cell.value == f"initialisation/{SCRATCH}"
    assert address == {**asked, STUDY: "initialisation"}
    *_, address = answer({CELL: NAME, STUDY: "modules", TARGET: "nonsense"})
    assert address == {CELL: NAME, STUDY: "modules", TARGET: "named"}
    # A study alone begins with its first measured cell; a cell is found wherever it stands.
    assert answer({STUDY: "injection"})[-1][CELL] == NAME
    assert answer({CELL: SCRATCH, STUDY: "injection"})[-1][STUDY] == "initialisation"
    assert answer({CELL: "nobody", STUDY: "nothing"})[-1][CELL] == NAME


def test_a_declared_cell_that_was_not_measured_says_its_command(only: Path) -> None:
    frozen = next(one for one in STUDIES["modules"].members if one.level == "vision frozen")
    said, cell, _, layers, below, _, cells, _, address = answer({CELL: frozen.cell.name})
    assert "modules: vision frozen, qwen3-vl at 0.0006, training seed 0 is not measured" in said
    assert f"vlm4vla study measure --cells {frozen.cell.name}" in said
    assert f"vlm4vla study run modules --cells {frozen.cell.name} --data CACHE" in said
    assert not layers.visible and below == "" and cell.value is None and cells.visible
    assert address == {TARGET: "named"}


def test_where_nothing_is_measured_it_says_what_to_do(only: Path) -> None:
    shutil.rmtree(only)
    said, cell, _, layers, _, _, cells, listed, address = answer({})
    assert "vlm4vla study run initialisation" in said and "vlm4vla study measure" in said
    assert not layers.visible and not cells.visible and listed == "" and address is None
    assert cell.value is None
    # With the start's file gone, the policy's own numbers are shown alone.
    only.mkdir()
    for file in FILES[:2]:
        shutil.copy(SHIPPED / "cells" / file, only / file)
    said, _, _, layers, _, tally, cells, listed, _ = answer({})
    assert "8.1 cm (95 % 7.6 to 8.6 cm) after training (what it started from is not known)" in said
    assert [len(trace["x"]) for trace in figure_of(layers)["data"]] == [0, 20, 20]
    assert [len(trace["x"]) for trace in figure_of(cells)["data"]] == [0, 3]
    assert "intervals" not in tally and "8.1 cm after" in listed


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeSimulators(), FakeCatalogue()) as url:
        yield url


def test_menus_the_address_and_points_in_a_browser(browser: Any, address: str) -> None:
    with page_without_errors(browser, LOOKS["light"]) as page:
        page.goto(f"{address}encoders?trained-cell={NAME}&trained-study=modules")
        page.wait_for_selector("#trained-cells .main-svg")
        page.wait_for_selector("#trained-layers .main-svg")
        page.wait_for_function("location.search.includes('trained-target=named')")
        # The page's own parts leave it alone, and it leaves theirs.
        page.wait_for_function("location.search.includes('up=')")
        assert "trained-study=modules" in page.url
        page.click("#trained-controls input >> nth=1")
        page.click("[role=option]:has-text('how high the gripper is')")
        page.wait_for_function("location.search.includes('trained-target=height')")
        page.reload()
        page.wait_for_selector("#trained-cells .main-svg")
        said = page.inner_text("#trained-answer")
        assert "how high the gripper is to 2.3 cm" in said and "modules: all" in said
        page.click("#trained-controls input >> nth=0")
        page.click("[role=option]:has-text('initialisation: scratch, qwen3-vl at 0.0006')")
        page.wait_for_function(f"location.search.includes('trained-cell={SCRATCH}')")
        point = page.locator("#trained-cells .scatterlayer .trace .point").first
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.click(*middle)
        page.wait_for_selector("#study-cell")
        assert "/ablations?" in page.url and f"study-cell={NAME}" in page.url
