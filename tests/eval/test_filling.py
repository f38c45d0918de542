"""`vlm4vla.eval.filling`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.episodes.examples import EVALUATION, example
from vlm4vla.episodes.parquet import export
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.eval.filling import Filling, _Filler
from vlm4vla.eval.labelling import count_missing


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What a filler does to its process's priority would slow every later test down."""
    before = os.nice(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda more: before)
        yield
    assert os.nice(0) == before


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of one episode, of two and of three; the first by name belongs to a study."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))
    folder = tmp_path / "results"
    folder.mkdir()
    for name, seeds in (("cell-0", [1]), ("ablation", [2, 3]), ("known", [4, 5, 6])):
        table = EpisodeTable.in_memory()
        for seed in seeds:
            table.put(example(seed, steps=8 if name == "ablation" else 2), [EVALUATION])
        export(table, folder / f"{name}.parquet")
    return folder


def test_a_file_after_another_comes_with_its_labels_and_studies_come_last(shipped: Path) -> None:
    sizes = {path.stem: path.stat().st_size for path in shipped.glob("*.parquet")}
    assert sizes["known"] < sizes["ablation"]
    filler = _Filler(shipped)
    for left, count in ((2, 3), (1, 5), (0, 6)):
        assert filler.next() == left
        assert EpisodeTable().count() == count and count_missing(EpisodeTable()) == 0
    assert Filling(shipped).progress() is None


def test_a_damaged_file_is_told_when_the_others_are_in(shipped: Path) -> None:
    (shipped / "known.parquet").write_bytes(b"PAR1 and no more")
    filler = _Filler(shipped)
    assert [filler.next(), filler.next()] == [2, 1]
    with pytest.raises(UserError, match=r"known\.parquet cannot be read"):
        filler.next()
    assert EpisodeTable().count() == 3
    # It is tried again at the next start.
    assert Filling(shipped).progress() == (0, 1)


def test_it_goes_on_in_a_process_of_its_own(shipped: Path) -> None:
    filling = Filling(shipped)
    assert filling.progress() == (0, 3)
    filling.carry_out()
    assert filling.progress() is None
    assert EpisodeTable().count() == 6 and count_missing(EpisodeTable()) == 0


def test_whatever_keeps_it_from_its_end_it_is_over(shipped: Path) -> None:
    (shipped / "cell-0.parquet").write_bytes(b"")
    filling = Filling(shipped)
    with pytest.raises(UserError, match=r"cell-0\.parquet"):
        filling.carry_out()
    assert filling.progress() is None
