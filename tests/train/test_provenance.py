"""`vlm4vla.train.provenance`."""

from pathlib import Path

import pytest

from vlm4vla.train import provenance


def test_a_command_names_nobodys_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = tmp_path / "someone"
    monkeypatch.setenv("HOME", str(me))
    monkeypatch.setenv("VLM4VLA_HOME", str(me / "runs"))
    checkout = Path(provenance.__file__).parents[2]
    typed = ["train", "--from", f"{checkout}/checkpoints/a", "--data", f"{me}/frames", "--out"]
    monkeypatch.setattr("sys.argv", ["vlm4vla", *typed, f"{me}/runs/b"])
    assert provenance.command() == (
        "vlm4vla train --from checkpoints/a --data ~/frames --out $VLM4VLA_HOME/b"
    )
