"""`vlm4vla represent`, on drawn noise with a truth that can be seen."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.attribution.test_shares import asked
from tests.model.conftest import make
from vlm4vla.action import tiny
from vlm4vla.commands import represent
from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.representations import attentive, measure
from vlm4vla.representations.pictures import TARGETS, Pictures
from vlm4vla.representations.results import read_cka, read_probes, read_shares


def painted(n: int = 40) -> Pictures:
    """A white square on black, high or low; everything else that could be asked is noise."""
    rng = np.random.default_rng(0)
    images = np.zeros((n, 128, 128, 3), np.uint8)
    height = rng.integers(0, 96, n)
    for image, top in zip(images, height, strict=True):
        image[top : top + 32, 48:80] = 255
    parts = {"object": (6, 2), "named": (1, 2), "gripper": (1, 3), "colour": (6, 1)}
    truth = {t.name: rng.normal(size=(n, *parts.get(t.name, (1, 1)))) for t in TARGETS}
    for name in ("closed", "colour", "contact"):
        truth[name] = (truth[name] > 0).astype(float)
    truth["height"] = height[:, None, None] / 10.0
    return Pictures(images, ("pick up the red cube",) * n, np.arange(n), np.ones(n, bool), truth)


def test_rows_are_written_and_what_was_probed_is_not_probed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    policy = Policy(make(), tiny(), query_init="embedding")
    policy.save_pretrained(tmp_path / "one")
    monkeypatch.setattr(attentive, "EPOCHS", 2)
    monkeypatch.setattr(represent, "_pictures", lambda scenes: (painted(), tmp_path / "work"))
    monkeypatch.setattr(represent, "_inferences", lambda scenes: [asked(0), asked(1)])
    args = argparse.Namespace(
        checkpoint=[str(tmp_path / "one")], scenes=40, out=tmp_path / "out", drag=False
    )
    assert represent.run(args) == 0
    rows, pairs = read_probes(tmp_path / "out"), read_cka(tmp_path / "out")
    layers = {row.layer for row in rows}
    assert {"vision 0", "vision 3", "projector", "picture 2", "query 3"} <= layers
    assert {row.layer for row in rows if row.reads} == {"query 3"}
    assert len(pairs) == len(layers) ** 2
    for pair in pairs:
        if pair.layer_a == pair.layer_b:
            assert pair.value == pytest.approx(1)
    best = next(
        row
        for row in rows
        if (row.layer, row.target, row.probe) == ("vision 0", "height", "linear")
    )
    # Heights are even from 0 to 9.5: the mean is off by a quarter of that on average.
    assert best.baseline == pytest.approx(2.4, abs=0.6)
    assert best.value < 0.5 * best.baseline
    assert best.low <= best.value <= best.high and best.scenes == 10
    assert {row.metric for row in rows if row.target in ("closed", "colour", "contact")} == {
        "balanced accuracy"
    }
    assert "vlm4vla represent" in best.command
    shares = read_shares(tmp_path / "out")
    assert {row.layer for row in shares} == {
        "vision 1",
        "vision 2",
        "vision 3",
        "query 1",
        "query 2",
    }
    assert all(row.area == 1 / 64 and row.inferences == 2 for row in shares)
    printed = capsys.readouterr()
    assert "40 pictures read" in printed.err

    def never(*args: object) -> None:
        raise AssertionError("probed twice")

    monkeypatch.setattr(measure, "features", never)
    monkeypatch.setattr(represent, "_inferences", never)
    assert represent.run(args) == 0
    assert read_probes(tmp_path / "out") == rows
    assert read_shares(tmp_path / "out") == shares

    # A run that was stopped before its last method explains that one alone.
    [kept] = (tmp_path / "work").glob("*-shares-attention.json")
    kept.unlink()
    monkeypatch.setattr(represent, "_inferences", lambda scenes: [asked(0), asked(1)])
    capsys.readouterr()
    assert represent.run(args) == 0
    assert read_shares(tmp_path / "out") == shares
    said = capsys.readouterr().err
    assert "attention explained" in said and "grad-cam explained" not in said


def test_folders_of_one_name_are_told_apart_by_their_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("a", "b"):
        policy = Policy(make(), tiny(), query_init="embedding")
        policy.query.data.fill_(ord(run))
        policy.save_pretrained(tmp_path / run / "checkpoint")
    named: list[str] = []

    def kept(encoders: list[measure.Encoder], *rest: object) -> int:
        named.extend(one.name for one in encoders)
        return 0

    monkeypatch.setattr(represent, "_pictures", lambda scenes: (painted(), tmp_path / "work"))
    monkeypatch.setattr(represent, "_drag", kept)
    folders = [str(tmp_path / run / "checkpoint") for run in ("a", "b", "a/../a")]
    folders.append("vlm-init/qwen3-vl")
    args = argparse.Namespace(checkpoint=folders, scenes=40, out=tmp_path / "out", drag=True)
    assert represent.run(args) == 0
    assert named == ["a/checkpoint", "b/checkpoint", "vlm-init/qwen3-vl"]


def test_every_encoder_is_read_before_pictures_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(scenes: int) -> None:
        raise AssertionError("drawn for a folder without weights")

    monkeypatch.setattr(represent, "_pictures", never)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text("{}")
    folders = ["vlm-init/qwen3-vl", str(tmp_path / "half")]
    args = argparse.Namespace(checkpoint=folders, scenes=40, out=tmp_path / "out", drag=False)
    with pytest.raises(UserError, match="half has no"):
        represent.run(args)
