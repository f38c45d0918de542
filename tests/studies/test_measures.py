"""What is measured of a cell: shares worked out on paper, and starts that are found again."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from synthetic import make_cache

from tests.attribution.toys import Toy
from tests.studies import miniature
from vlm4vla import cli
from vlm4vla.attribution.inputs import Question
from vlm4vla.core.condition import Condition
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.studies import measures as stored
from vlm4vla.studies import views as seen
from vlm4vla.studies.cell import Cell
from vlm4vla.studies.measures import (
    ATTRIBUTION,
    CKA,
    OF_CELL,
    OF_ORIGIN,
    PROBE,
    Measured,
    Measures,
    Row,
    measures_of,
    origin_of,
    read,
)
from vlm4vla.studies.measuring import measure, shares
from vlm4vla.studies.run import Runner
from vlm4vla.studies.study import Member, studies
from vlm4vla.suites.registry import TABLETOP


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("miniature")
    miniature.make(found, make_cache(episodes=12, frames=2))
    return found


@pytest.fixture
def cells(folder: Path) -> dict[str, Cell]:
    known = studies(miniature.scale(folder))
    return {one.level: one.cell for study in known.values() for one in study.members}


ROWS = (
    Row(PROBE, "projector", "named", 9.123456789, 8.5, 9.75, 250, 11.4),
    Row(PROBE, "vision 3", "colour", 0.75, None, None, 250, 0.5),
    Row(CKA, "vision 2", "", 0.9, None, None, 200, None),
    Row(CKA, "vision 3", "", 0.4375, None, None, 200, None),
    Row(CKA, "query 1", "", 0.1, None, None, 200, None),
    Row(ATTRIBUTION, "occlusion", "object", 0.05, 0.04, 0.0625, 50, 0.016),
)


def told(name: str, agent: str = "", rows: tuple[Row, ...] = ROWS) -> Measured:
    return Measured(name, agent, "pictures", "vlm4vla study measure", 12.5, rows)


def test_rows_come_back_and_say_the_chief_ones(
    tmp_path: Path, cells: dict[str, Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    cell = cells["VLM"]
    assert measures_of(cell, tmp_path / "own", "agent", "vlm") is None
    told(cell.name, "agent").write(tmp_path / "own" / OF_CELL)
    found = measures_of(cell, tmp_path / "own", "agent", "vlm")
    assert found is not None and found.before is None
    # Five digits are kept of what was measured.
    assert found.trained.rows == (ROWS[0]._replace(score=9.1235), *ROWS[1:])
    assert found.sentences() == [
        "a linear probe of the projector is off the named object by 9.1 cm (95 % 8.5 to 9.8) "
        "after (the mean place is by 11.4)",
        "CKA of vision 3 with its start is 0.44",
        "5.0 % of occlusion lies on the named object (95 % 4.0 to 6.2; its area is 1.6 %)",
    ]
    # Another training's policy is not this cell's.
    assert measures_of(cell, tmp_path / "own", "other", "vlm") is None
    origin = origin_of(cell)
    told(origin.name, rows=(ROWS[0]._replace(score=10.0),)).write(origin.folder / OF_ORIGIN)
    both = measures_of(cell, tmp_path / "own", "agent", "vlm")
    assert both is not None
    assert "by 10.0 cm (95 % 8.5 to 9.8) before training, 9.1 cm" in both.sentences()[0]
    # What was kept of another VLM is not what this cell started from.
    told(origin.name, "vlm").write(origin.folder / OF_ORIGIN)
    for vlm, comparable in (("vlm", True), ("another", False)):
        known = measures_of(cell, tmp_path / "own", "agent", vlm)
        assert known is not None and (known.before is not None) == comparable
    # What was shown other pictures cannot be compared.
    other = replace(both.before, pictures="others") if both.before else None
    assert other is not None
    other.write(origin.folder / OF_ORIGIN)
    alone = measures_of(cell, tmp_path / "own", "agent", "vlm")
    assert alone is not None and alone.before is None
    # What is shipped lies in one folder.
    shipped = tmp_path / "shipped"
    told(cell.name, "shipped").write(shipped / "cells" / f"{cell.name}-{OF_CELL}")
    monkeypatch.setattr(stored, "SHIPPED", shipped)
    assert measures_of(cell, tmp_path / "nothing", "shipped", "vlm") is not None
    # Rows of another version are made again.
    file = tmp_path / "own" / OF_CELL
    file.write_text(file.read_text().replace('"concept"', '"target"'))
    assert read(tmp_path / "own", cell.name, OF_CELL) is None


def test_cells_that_start_with_the_same_weights_share_their_start(cells: dict[str, Cell]) -> None:
    vlm, scratch, mimetic = (cells[one] for one in ("VLM", "scratch", "scratch, the VLM's start"))
    other = {cell.name: replace(cell, seed=7) for cell in (vlm, scratch, mimetic)}
    frozen = cells["vision frozen"]
    assert origin_of(vlm) == origin_of(other[vlm.name]) == origin_of(frozen)
    # New weights are drawn by the training seed.
    for cell in (scratch, mimetic):
        assert origin_of(cell).name != origin_of(other[cell.name]).name
    after = [cells[f"tokens to language, then vision {how}"] for how in ("frozen", "trained")]
    names = [origin_of(one).name for one in (vlm, scratch, mimetic, *after)]
    assert names[3] == names[4] and len(set(names)) == 4


def test_shares_are_those_of_the_scenes() -> None:
    # Only the red of the upper left cell moves the hand, so the whole map lies there.
    policy = Toy(lambda red: red[:, 0])
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:8, :16, 0] = 255

    def asked(seed: int, rows: int, columns: int) -> seen.Asked:
        mask = np.zeros((128, 128), bool)
        mask[:rows, :columns] = True
        return seen.Asked(seed, Question(picture, "pick up the red cube"), mask)

    # Whole cell and none, half and half, a quarter and three quarters: 0.5 in every scene.
    alike = [asked(0, 16, 16), asked(0, 0, 0), asked(1, 8, 16), asked(1, 16, 8)]
    alike += [asked(2, 8, 8), asked(2, 16, 12)]
    row, some = shares(policy, alike, "occlusion")
    assert row[:3] == (ATTRIBUTION, "occlusion", "object")
    assert (row.score, row.low, row.high, row.n) == pytest.approx((0.5, 0.5, 0.5, 3))
    # 1 + 0 + 0.5 + 0.5 + 0.25 + 0.75 of 64 cells in six pictures.
    assert row.baseline == pytest.approx(3 / 6 / 64)
    # Scenes of 1, 0.5 and 0: deviation 0.5, Student's t of two degrees 4.30265.
    assert (some.concept, some.score, some.n) == ("anywhere", 1, 6)
    row, _ = shares(policy, [asked(0, 16, 16), asked(1, 8, 16), asked(2, 0, 0)], "occlusion")
    assert row.score == pytest.approx(0.5)
    assert row.high == pytest.approx(0.5 + 4.30265 * 0.5 / 3**0.5, abs=1e-4)
    # Where the picture changes nothing, there is no share of it.
    grey = Question(np.full_like(picture, 90), "pick up the red cube")
    mixed = [asked(0, 16, 16), asked(1, 8, 16), asked(2, 0, 0)._replace(question=grey)]
    row, some = shares(policy, mixed, "occlusion")
    assert (row.score, row.n) == (pytest.approx(0.75), 2)
    assert (some.score, some.n) == (pytest.approx(2 / 3), 3)
    row, some = shares(policy, [one._replace(question=grey) for one in mixed], "occlusion")
    assert np.isnan(row.score) and some.score == 0


class InProcess(Runner):
    """Trains in this process."""

    def _command(self, core, cell, words):
        assert cli.main(words) == 0


@pytest.mark.parametrize("level", ["VLM", "scratch", "scratch, the VLM's start"])
def test_the_start_is_found_again(level, folder, cells, tmp_path, monkeypatch):
    """Where nothing but the head learned, every layer of the start is the policy's own."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    cell = replace(cells[level], groups=("head",), seed=5)
    runner = InProcess(EpisodeTable.in_memory(), folder / "data", [0], print)
    runner._train(0, Member(level, cell))
    lines: list[str] = []
    found = measure(cell, miniature.views(), "the command", lines.append)
    assert found.before is not None and found.before.name == origin_of(cell).name
    assert found.trained.command == "the command"
    similar = {row.layer: row.score for row in found.trained.rows if row.what == CKA}
    assert {"vision 0", "vision 3", "projector", "picture 3", "query 4"} <= set(similar)
    for layer, value in similar.items():
        # The query, which belongs to the head, learned.
        if not layer.startswith("query"):
            assert value == pytest.approx(1, abs=1e-6), layer
    for row in found.before.rows:
        if not row.layer.startswith("query"):
            after = found.trained.find(*row[:3])
            assert after is not None and after.score == pytest.approx(row.score, rel=1e-3)
    told = [row for row in found.trained.rows if row.what == ATTRIBUTION]
    assert [row[1:3] for row in told if row.layer == "attention"] == [
        ("attention", "object"),
        ("attention", "anywhere"),
    ]
    assert all(0 <= row.score <= 1 and row.n == 2 for row in told)
    kept = json.loads((tmp_path / "studies" / cell.name / OF_CELL).read_text())
    assert kept["pictures"] == found.before.pictures == miniature.views().fingerprint
    # A second cell of this start reads what is there.
    lines.clear()
    measure(cell, miniature.views(), "again", lines.append)
    assert not any("before training" in line for line in lines)
    # What was kept of another VLM is measured anew.
    origin = origin_of(cell)
    kept_start = read(origin.folder, origin.name, OF_ORIGIN)
    assert kept_start is not None and kept_start.agent == cell.start.digest
    replace(kept_start, agent="another").write(origin.folder / OF_ORIGIN)
    anew = measure(cell, miniature.views(), "again", lines.append)
    assert anew.before is not None and anew.before.agent == cell.start.digest
    assert any("before training" in line for line in lines)
    # Other weights in the policy's place are refused.
    (tmp_path / "studies" / cell.name / "cell.json").unlink()
    with pytest.raises(UserError, match="its account says None"):
        measure(cell, miniature.views(), "again", lines.append)


def test_views_are_drawn_once_and_come_back(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    for name, value in (("SCENES", 2), ("EXPLAINED", 1)):
        monkeypatch.setattr(seen, name, value)

    class Borrowed:
        """The tests' simulator, which stays open."""

        def __init__(self, suite):
            self.close = lambda: None

        def __getattr__(self, name):
            return getattr(environment, name)

    monkeypatch.setattr(seen, "EnvironmentProcess", Borrowed)
    drawn = seen.views(("reach", "pick"), lambda line: None)
    pictures = drawn.pictures
    # What cells are shown does not change with what else encoders are asked.
    assert list(pictures.truth) == ["object", "named", "gripper", "height", "closed", "colour"]
    # A start in one task and a moment of the expert in the other, in turn.
    assert pictures.scenes.tolist() == [0, 0, 1, 1]
    assert pictures.first.tolist() == [True, False] * 2
    asked = (("reach", 0), ("pick", 0), ("pick", 1), ("reach", 1))
    said = tuple(TABLETOP.spec(*one, Condition()).instruction for one in asked)
    assert pictures.instructions == said
    # In a moment of the expert the gripper has left the place where it began.
    where = pictures.truth["gripper"][:, 0]
    assert (np.linalg.norm(where[[1, 3]] - where[[0, 2]], axis=1) > 0.5).all()
    for one, task in zip(drawn.asked, ("reach", "pick"), strict=True):
        assert one.seed == 0
        assert one.question.instruction == TABLETOP.spec(task, 0, Condition()).instruction
        assert 20 < one.object.sum() < 2000
        # The scene's start is the same picture, whatever is asked.
        assert (one.question.picture == pictures.images[0]).all()
    monkeypatch.setattr(seen, "EnvironmentProcess", None)
    again = seen.views(("reach", "pick"), lambda line: None)
    assert again.fingerprint == drawn.fingerprint
    changed = replace(again, asked=again.asked[:1])
    assert changed.fingerprint != drawn.fingerprint


def test_what_cannot_be_told_is_left_out() -> None:
    nothing = Measures(told("cell", rows=()), None)
    assert nothing.sentences() == []
    assert nothing.to_json()["before"] is None
    blind = Row(ATTRIBUTION, "occlusion", "anywhere", 0.0, None, None, 100, None)
    assert Measures(told("cell", rows=(blind,)), None).sentences() == [
        "occlusion is nothing anywhere at 100 first looks"
    ]
    some = (ROWS[-1], blind._replace(score=0.25))
    [said] = Measures(told("cell", rows=some), None).sentences()
    assert said.endswith("its area is 1.6 %), at the 25 of 100 first looks that have any")
