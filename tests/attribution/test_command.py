import json

import imageio.v3 as imageio
import numpy as np
import pytest

from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.attribution.methods import METHODS
from vlm4vla.attribution.target import TARGETS
from vlm4vla.cli import main
from vlm4vla.commands import attribute
from vlm4vla.model.checkpoint import checkpoint_hash


def test_attribute_explains_a_first_action_and_keeps_it(tmp_path, capsys, monkeypatch):
    command = ["attribute", "--checkpoint", "qwen3vl-tiny", "--task", "place", "--seeds", "3"]
    command += ["--method", "gradient", "--out", str(tmp_path)]
    assert main(command) == 0
    [line] = capsys.readouterr().out.splitlines()
    base = tmp_path / "place-000003-gradient-displacement"
    told = json.loads(base.with_suffix(".json").read_text())
    assert told["checkpoint"] == checkpoint_hash(SHIPPED / "qwen3vl-tiny")
    assert (told["step"], told["unit"], told["reference"]) == (0, "mm", None)
    assert told["instruction"] in line
    # By truth every pixel is one thing's, so shares are whole.
    parts = {"object", "goal", "gripper", "robot", "others", "background"}
    for shares in (told["mass"], told["pixels"]):
        assert set(shares) == parts
        assert sum(shares.values()) == pytest.approx(1)
    assert 0 < told["pixels"]["object"] < 0.2
    assert len(told["deletion"]["random_areas"]) == 5
    with np.load(base.with_suffix(".npz")) as kept:
        assert kept["map"].shape == (8, 8) and kept["picture"].shape == (128, 128, 3)
        assert np.abs(kept["map"]).max() == told["scale"]
        assert float(kept["target"]) == told["value"]
    assert imageio.imread(base.with_suffix(".png")).shape == (512, 512, 3)
    # The same again is told from what is there; what another run left is done anew.
    marked = {**told, "value": 12345.0}
    base.with_suffix(".json").write_text(json.dumps(marked))
    assert main(command) == 0
    assert "12345.0 mm" in capsys.readouterr().out
    base.with_suffix(".json").write_text(json.dumps({**marked, "checkpoint": "another"}))
    monkeypatch.setattr(attribute, "_explain", lambda *_: told)
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [line]


def test_attribute_offers_every_method_and_target():
    assert (tuple(METHODS), tuple(TARGETS)) == (attribute.METHODS, attribute.TARGETS)
