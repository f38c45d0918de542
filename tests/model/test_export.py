import json
import resource

import pytest
import torch
from safetensors.torch import load_file

from vlm4vla.agents.catalogue import SHIPPED
from vlm4vla.cli import main
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.load import load_vlm
from vlm4vla.model.policy import Policy
from vlm4vla.model.vlm import save_vlm
from vlm4vla.train.provenance import lineage, remember


def test_a_policy_is_handed_on_in_half_precision_and_acts_alike(
    policy, tmp_path, pictures, monkeypatch
):
    remember(policy.vlm, "language", {}, {}, {})
    monkeypatch.setattr(policy.vlm, "source", str(tmp_path))
    policy.save_pretrained(tmp_path / "run")
    arguments = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--execute", "2"]
    assert main([*arguments, "--notes", "It was never trained."]) == 0
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    again = Policy.from_pretrained(tmp_path / "out", "cpu")
    assert again.spec.execute == 2
    assert again.vlm.source == "qwen3-vl:tiny"
    words = ["go", "push the red cube", "stop", "reach it"]
    arms = [one(pictures, words).arm.detach() for one in (policy, again)]
    assert torch.allclose(*arms, atol=5e-3)
    assert "It was never trained." in (tmp_path / "out" / "README.md").read_text()


def test_a_shipped_policy_is_handed_on_by_its_name(tmp_path):
    assert main(["export", "paligemma-tiny", "--out", str(tmp_path / "out")]) == 0
    assert checkpoint_hash(tmp_path / "out") == checkpoint_hash(SHIPPED / "paligemma-tiny")


def test_a_vlm_keeps_what_it_has_been_through(policy, tmp_path, capsys):
    remember(policy.vlm, "language", {"steps": 3}, {"colour": 0.123456}, {})
    (tmp_path / "vlm").mkdir()
    save_vlm(policy.vlm, tmp_path / "vlm")
    assert main(["export", str(tmp_path / "vlm"), "--out", str(tmp_path / "out")]) == 0
    again = load_vlm(tmp_path / "out", torch.float32, "cpu")
    (entry,) = lineage(again)
    assert (entry["stage"], entry["figures"]) == ("language", {"colour": 0.1235})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"
    assert main(["export", str(tmp_path / "vlm"), "--out", str(tmp_path), "--execute", "2"]) == 2
    assert main(["export", str(tmp_path / "vlm"), "--out", str(tmp_path)]) == 2
    assert "no VLM" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_leaves_nothing_of_a_vlm(policy, tmp_path, capsys):
    """A limit on the size of files stands for the disk: what is written beyond it is refused."""
    (tmp_path / "vlm").mkdir()
    save_vlm(policy.vlm, tmp_path / "vlm")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        status = main(["export", str(tmp_path / "vlm"), "--out", str(tmp_path / "out")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert f"Could not write {tmp_path / 'out'}: File too large. Free" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["vlm"]


@pytest.fixture(autouse=True)
def unchanged(policy):
    """The shared policy goes on as it was."""
    extras = policy.vlm.extras
    yield
    policy.vlm.extras = extras
