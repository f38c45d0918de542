"""The paper's own numbers on the Ablations page: charts, table, file and address."""

import base64
import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pages.ablations.papers import table_html
from pages.ablations.plots import paper_figure
from tests.episodes.examples import EVALUATION, example
from tests.live.fake_simulators import FakeCatalogue, FakeSimulators
from tests.pages.conftest import PATIENCE, serve
from tests.pages.test_access import LOOKS, serious_findings
from vlm4vla.episodes.rows import Entry
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.studies.paper_tables import tables


def figures(name: str) -> list[Any]:
    table = tables()[name]
    return [paper_figure(one, table.points(one), table.extent(one)) for one in table.measures]


def test_a_chart_has_one_unit_and_says_where_a_number_stands() -> None:
    calvin, bridge = figures("freeze")
    assert calvin.layout.xaxis.title.text == "sub-tasks out of 5"
    assert bridge.layout.xaxis.title.text == "success, %"
    assert calvin.layout.title.text.startswith("<b>CALVIN ABC-D</b><br>average completed")
    [points] = calvin.data
    assert points.marker.symbol == "diamond-open" and points.error_x.array is None
    assert list(points.x)[:3] == [3.856, 2.855, 3.849]
    # A head for each of three models, and three settings below each.
    assert list(calvin.layout.yaxis.ticktext)[:3] == [
        "<b>Qwen2.5VL-3B</b>",
        "full fine-tune (baseline)",
        "freeze vision encoder",
    ]
    assert list(points.y)[:3] == list(calvin.layout.yaxis.tickvals)[1:4] and len(points.y) == 9
    [told] = points.customdata[1]
    assert told == (
        "<b>Qwen2.5VL-3B</b>, 3.1 B<br>freeze vision encoder<br>◇ 2.855 (-1.001)<br>paper Table 3"
    )


def test_marks_tell_how_a_number_came_from_the_paper() -> None:
    average = figures("auxiliary-tasks")[-1]
    read, quoted = average.data
    assert (read.marker.symbol, quoted.marker.symbol) == ("square-open", "triangle-up-open")
    # + Omni-Generation: 3.877 between 3.745 and 3.967 in the figure, 3.876 quoted.
    place = list(read.x).index(3.877)
    assert round(read.error_x.array[place], 3) == 0.09
    assert round(read.error_x.arrayminus[place], 3) == 0.132
    assert list(quoted.x) == [3.876, 3.887] and quoted.error_x.array is None
    assert 0 < quoted.y[0] - read.y[place] < 0.5
    assert "median of 3.745 to 3.967<br>paper Figure 4" in read.customdata[place][0]


def test_a_table_shows_every_number_with_its_mark_and_offers_it_as_a_file() -> None:
    for name, table in tables().items():
        shown = table_html(table)
        assert shown.count('class="pp-number"') == len(table.entries)
        [content] = re.findall('base64,([^"]+)', shown)
        head, *rows = csv.reader(io.StringIO(base64.b64decode(content).decode()))
        assert head[0] == "table" and len(rows) == len(table.entries)
        assert f"vlm4vla study paper {name}<" in shown
    shown = table_html(tables()["scratch"])
    assert '<td class="pp-number" title="paper Table 4">△ 15.75 (-32.25)</td>' in shown
    assert "<b>SimplerEnv-Bridge</b> mean success % over 4 WidowX tasks x 24 trials" in shown
    assert "typed" not in shown


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM4VLA_HOME", str(tmp_path_factory.mktemp("papers")))
        # Somebody whose matrix writes into the address.
        EpisodeTable().put_all([Entry(example(500), (EVALUATION,))])
        with serve(FakeSimulators(), FakeCatalogue()) as url:
            yield f"{url}ablations"


CHART = "#paper-charts .js-plotly-plot .main-svg .xtitle"


def drawn(page: Any) -> None:
    """Waits for the paper's charts: one that is not drawn yet says so in a way that axe minds."""
    page.wait_for_selector(CHART)
    page.wait_for_selector("#paper-charts .empty", state="detached")


def opened(page: Any, address: str) -> Any:
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#paper-shown .pp-table")
    page.wait_for_selector("#ablation .ab-matrix")
    drawn(page)
    return page


def test_a_table_and_a_benchmark_are_chosen_and_the_address_opens_them_again(
    page: Any, address: str
) -> None:
    opened(page, f"{address}?study-cell=some")
    assert page.locator("#paper-shown tbody tr").count() == 12
    assert page.locator("#paper-charts .js-plotly-plot").count() == 3
    # What nobody chose is not in the address.
    page.wait_for_function("location.search.includes('policy=')")
    assert "paper=" not in page.url
    page.click("#paper-table input")
    page.click("#paper-table [role=option]:has-text('Parts frozen')")
    page.wait_for_function("location.search.includes('paper=freeze')")
    assert page.locator("#paper-shown tbody tr").count() == 9
    page.click("#paper-benchmark label:has-text('SimplerEnv-Bridge')")
    page.wait_for_function("location.search.includes('benchmark=SimplerEnv-Bridge')")
    page.wait_for_function("document.querySelectorAll('#paper-charts .js-plotly-plot').length < 2")
    assert "CALVIN" not in page.inner_text("#paper-shown thead")
    assert "◇ 13.25 (-42.0)" in page.inner_text("#paper-shown tbody")
    assert "policy=" in page.url and "study-cell=some" in page.url
    # The matrix writes its own part and leaves this one.
    page.click("[data-cell='0-1']")
    page.wait_for_function("location.search.includes('cell=0-1')")
    assert "paper=freeze" in page.url and "benchmark=SimplerEnv-Bridge" in page.url
    page.reload()
    page.wait_for_selector("#paper-shown .pp-table >> text=13.25")
    assert "CALVIN" not in page.inner_text("#paper-shown thead")
    page.wait_for_function(
        "Math.abs(document.querySelector('#paper').getBoundingClientRect().top) < innerHeight"
    )


def test_what_an_address_cannot_name_is_not_shown(page: Any, address: str) -> None:
    opened(page, f"{address}?paper=nonsense&benchmark=LIBERO-10")
    assert page.locator("#paper-charts .js-plotly-plot").count() == 1
    page.wait_for_function("!location.search.includes('paper=')")
    opened(page, f"{address}?paper=scratch&benchmark=LIBERO-10")
    assert page.locator("#paper-charts .js-plotly-plot").count() == 2
    page.wait_for_function("!location.search.includes('benchmark=')")
    assert "△ quoted by somebody else from the paper" in page.inner_text("#paper-legend")
    # Of one benchmark, there is nothing to choose.
    opened(page, f"{address}?paper=simpler-per-task")
    assert page.locator("#paper-benchmark").count() == 0 or page.is_hidden("#paper-benchmark")


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious_is_found_in_any_look(browser: Any, address: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = opened(context.new_page(), f"{address}?paper=auxiliary-tasks")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # Text in charts is the page's own colour, in light and dark.
    colours = page.evaluate(
        "s => [getComputedStyle(document.querySelector(s)).fill,"
        " getComputedStyle(document.querySelector('#paper-shown caption')).color]",
        CHART,
    )
    assert colours[0] == colours[1]
    box = page.locator("#paper-shown .ab-csv").bounding_box()
    assert min(box["width"], box["height"]) >= 44
    context.close()
