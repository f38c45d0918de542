import json
from pathlib import Path

import pytest

from vlm4vla import action
from vlm4vla.cli import main
from vlm4vla.model.policy import Policy

ROOT = Path(__file__).parents[2]


def test_backbones_lists_every_kind(capsys, monkeypatch, tmp_path, small):
    monkeypatch.chdir(tmp_path)
    Policy(small(), action.tiny()).save_pretrained("checkpoints/mine")
    assert main(["backbones", "--json"]) == 0
    found = {b["name"]: b for b in json.loads(capsys.readouterr().out)}
    assert found["qwen3-vl:tiny"]["kind"] == "preset"
    assert found["paligemma2:paper"]["note"] == "google/paligemma2-3b-pt-224"
    assert found["Qwen/Qwen2.5-VL-7B-Instruct"]["billions"] == 8.3
    assert found["checkpoints/mine"]["kind"] == "local"
    # The ten VLMs of the paper.
    assert sum(b["kind"] == "hub" for b in found.values()) >= 10


def test_backbones_pattern(capsys):
    assert main(["backbones", "QWEN*moe*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("qwen3-vl-moe" in line for line in lines)
    assert main(["backbones", "nothing*"]) == 1


def test_probe_prints_parts_and_checks(capsys):
    assert main(["probe", "internvl:tiny"]) == 0
    out = capsys.readouterr().out
    assert "InternVLModel" in out
    # A preset of random weights ships no processor, and an empty check is not a passed one.
    assert "10 of 10 checks passed; nothing to compare with: as shipped" in out
    assert [line.split()[0] for line in out.splitlines() if "as shipped  " in line] == ["none"]
    assert "FAIL" not in out


def test_probe_json_is_one_line(capsys):
    assert main(["probe", "smolvlm:tiny", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["family"] == "smolvlm"
    assert report["passed"] is True
    assert {"name", "passed", "value", "limit", "claim", "compared"} == set(report["checks"][0])
    new, total = report["parts"]["new parameters"], sum(report["parts"]["parameters"].values())
    assert report["parts"]["share of new parameters"] == pytest.approx(new / total)
    for page in ("README.md", "docs/backbones.md"):
        shown = (ROOT / page).read_text()
        assert [c["name"] for c in report["checks"] if c["claim"] not in shown] == []


def test_probe_of_nothing(capsys):
    assert main(["probe", "internvl:huge"]) == 2
    assert "known: tiny, paper" in capsys.readouterr().err


def test_probe_offline_says_one_sentence(capsys):
    assert main(["probe", "Qwen/Qwen3-VL-2B-Instruct"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "hf download Qwen/Qwen3-VL-2B-Instruct" in said.err
