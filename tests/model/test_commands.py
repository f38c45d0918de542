import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.eval.examples import EPISODE
from vlm4vla import action
from vlm4vla.cli import main
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, AgentSpan, Outcome
from vlm4vla.episodes.filters import Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP

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


KEYS = {"name", "family", "kind", "billions", "note"}
KEYS |= {"policy", "parameters", "trained_on", "skill", "success"}


def test_backbones_tells_what_the_shipped_checkpoints_can_do(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # from anywhere
    assert main(["backbones", "*", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(set(one) == KEYS for one in found)
    local = {Path(one["name"]).name: one for one in found if one["kind"] == "local"}
    policies = [path.parent for path in sorted((ROOT / "checkpoints").glob("*/policy.json"))]
    assert policies
    for folder in policies:
        one, manifest = local[folder.name], json.loads((folder / "policy.json").read_text())
        assert (one["family"], one["policy"]) == (manifest["family"], True)
        groups = manifest["parameters"].values()
        assert one["parameters"] == sum(group["parameters"] for group in groups)
        assert one["trained_on"] and 0 < one["skill"]["colour"]["share"] <= 1
        tasks, told = manifest["evaluation"].get("tasks", {}), one["success"] or {"tasks": {}}
        assert told["tasks"].keys() == tasks.keys()
        for task, row in tasks.items():
            assert told["tasks"][task]["ci95"] == pytest.approx(row["ci95"], abs=1e-4)
        assert told.get("n", 0) == sum(row["n"] for row in tasks.values())
    for metrics in (ROOT / "checkpoints" / "vlm-init").glob("*/metrics.json"):
        one, measured = local[metrics.parent.name], json.loads(metrics.read_text())
        assert metrics.parent.name.startswith(one["family"])
        assert (one["policy"], one["success"]) == (False, None)
        colour = {"share": measured["skill"]["colour"], "n": measured["asked"]["colour"]}
        assert one["skill"]["colour"] == colour


def test_backbones_tells_people_the_same(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["backbones", "qwen3vl-tiny"]) == 0
    first, *further = capsys.readouterr().out.splitlines()
    assert first.split()[:5] == ["checkpoints/qwen3vl-tiny", "qwen3-vl", "local", "7.0", "M"]
    assert [line.split(":")[0].strip() for line in further] == [
        "success",
        "general skill before robot frames",
        "trained on",
    ]
    row = json.loads((ROOT / "checkpoints/qwen3vl-tiny/policy.json").read_text())["evaluation"]
    counts = [sum(one[name] for one in row["tasks"].values()) for name in ("successes", "n")]
    assert f"{counts[0]} of {counts[1]} (95 % " in further[0]


def test_an_evaluation_of_this_machine_is_told_where_the_checkpoint_holds_none(
    capsys, monkeypatch, tmp_path, small
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VLM4VLA_LOCAL", str(tmp_path / "local"))
    Policy(small(), action.tiny()).save_pretrained("checkpoints/mine")

    def told():
        assert main(["backbones", "mine", "--json"]) == 0
        return json.loads(capsys.readouterr().out)[0]["success"]

    assert told() is None
    digest = checkpoint_hash(Path("checkpoints/mine"))
    for seed in range(4):
        spec = TABLETOP.spec("pick", seed, Condition())
        agents = (AgentSpan(AgentId("policy", digest, "mine")),)
        outcome = Outcome("success" if seed else "timeout", ".")
        episode = replace(EPISODE, spec=spec, agents=agents, outcome=outcome)
        EpisodeTable().put(episode, [Membership("evaluation", "reported")])
    assert told()["tasks"]["pick"]["successes"] == 3 and told()["n"] == 4


def test_backbones_pattern(capsys):
    assert main(["backbones", "QWEN*moe*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("qwen3-vl-moe" in line for line in lines)
    assert main(["backbones", "nothing*"]) == 1


def test_families_without_trained_weights_say_so(capsys):
    assert main(["backbones", "*:tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    untrained = {line.split(":")[0] for line in lines if "recipe runs, not trained" in line}
    trained = {line.split(":")[0] for line in lines} - untrained
    assert trained == {"qwen3-vl", "internvl", "paligemma", "kosmos-2"}


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
