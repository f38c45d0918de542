"""The charts of the Ablations page as plotly is given them, and the numbers behind them."""

import base64
import csv
import io
import re

from pages.ablations.plots import curve_figure, parts_figure
from pages.ablations.view import Mark, points_html
from tests.ablation.test_matrix import AGENT, put
from tests.episodes.examples import EVALUATION
from vlm4vla.ablation.curves import AXES
from vlm4vla.ablation.matrix import Cell, compared, condition_of
from vlm4vla.ablation.registry import perturbation
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable


def cells() -> list[Cell]:
    table = EpisodeTable.in_memory()
    light = perturbation("light", {"factor": 2.0})
    put(table, Condition(), range(20), 19, membership=EVALUATION)
    put(table, condition_of(light), range(20), 4)
    return compared(table, AGENT, [condition_of(light)], ["pick"])


def test_a_curve_holds_what_was_measured_and_where_its_episodes_are() -> None:
    intact, light = cells()
    marks = [Mark("light 1", intact, "#one", 1.0), Mark("light 2", light, "#two", 2.0)]
    [line] = curve_figure(AXES["light"], marks).data
    assert list(line.x) == [1.0, 2.0] and list(line.y) == [95.0, 20.0]
    # Wilson by hand for 4 of 20: 8.07 to 41.60 %.
    assert round(line.error_y.array[1], 1) == 21.6 and round(line.error_y.arrayminus[1], 1) == 11.9
    assert list(line.customdata[1]) == ["4 of 20 (95 % 8 to 42 %)", "#two"]


def test_parts_stand_beside_the_intact_policys_line() -> None:
    intact, light = cells()
    figure = parts_figure([Mark("nothing skipped", intact, ""), Mark("vision layer 0", light, "")])
    [points] = figure.data
    assert list(points.y) == ["vision layer 0"] and list(points.x) == [20.0]
    band, line = figure.layout.shapes
    assert line.x0 == 95.0 and band.x0 < 95.0 < band.x1 and band.layer == "below"


def test_the_numbers_behind_a_chart_are_a_file() -> None:
    intact, light = cells()
    marks = [Mark("light 1", intact, "#one", 1.0), Mark("light 2", light, "#two", 2.0)]
    shown = points_html(marks, "", "factor", "light", lambda cell, row: "")
    [content] = re.findall('base64,([^"]+)', shown)
    first, usual, double = csv.reader(io.StringIO(base64.b64decode(content).decode()))
    assert first[:3] == ["factor", "successes", "n"] and first[-1] == "p"
    assert usual[:4] == ["1", "19", "20", "0.9500"] and usual[-1] == ""
    # 15 scenes lost, none won: two times a half to the power of 15.
    assert double[:3] == ["2", "4", "20"] and double[-1] == "6.104e-05"
    assert "light 2 (-75 points)" in shown
