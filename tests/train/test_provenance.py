"""`vlm4vla.train.provenance`."""

from pathlib import Path

import pytest

from vlm4vla.train import provenance


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--from {checkout}/checkpoints/a", "--from checkpoints/a"),
        ("--data {me}/frames", "--data ~/frames"),
        ("--data={me}/frames", "--data=~/frames"),
        ("--out {me}/runs/b", "--out $VLM4VLA_HOME/b"),
        ("--out {me}/runs", "--out $VLM4VLA_HOME"),
        # Another folder, whose name holds or begins with that of the home directory.
        ("--data /mnt{me}/frames", "--data /mnt{me}/frames"),
        ("--data {me}s/frames", "--data {me}s/frames"),
    ],
)
def test_a_command_names_nobodys_folders(
    typed: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = tmp_path / "someone"
    monkeypatch.setenv("HOME", str(me))
    monkeypatch.setenv("VLM4VLA_HOME", str(me / "runs"))
    names = {"me": me, "checkout": Path(provenance.__file__).parents[2]}
    monkeypatch.setattr("sys.argv", ["vlm4vla", "train", *typed.format(**names).split()])
    assert provenance.command() == f"vlm4vla train {told.format(**names)}"
