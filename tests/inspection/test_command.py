"""`vlm4vla inspect`: one line of JSON, and the files it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.inspection.examples import still_episode
from tests.inspection.test_bundle import Painter
from vlm4vla.cli import main
from vlm4vla.commands import inspect
from vlm4vla.episodes.table import EpisodeTable


def test_inspect_prints_its_line_and_writes_what_it_found(
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    episode = still_episode(np.tile([0.3, 0.3, 0, 0, 0, 0, 1.0], (12, 1)), seed=5)
    EpisodeTable().put(episode, [])
    monkeypatch.setattr(inspect, "_simulator", Painter().lend)
    out: Any = tmp_path / "out"
    page = tmp_path / "page.html"
    assert main(["inspect", episode.id, "--json", "--out", str(out), "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["id"], told["pictures"], told["inferences"]) == (episode.id, 13, 0)
    assert told["parting"] == 0
    assert np.load(out / "lanes.npz")["tips"].shape == (13, 3)
    assert (out / "pictures" / "view-012.jpg").exists()
    assert "<canvas" in page.read_text()


def test_an_unknown_id_is_said_to_be_unknown(
    data_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "prepare", lambda *_, **__: None)
    assert main(["inspect", "ffffffffffffffff"]) == 2
    assert "no such stored episode" in capsys.readouterr().err
