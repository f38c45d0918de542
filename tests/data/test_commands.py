"""The commands end to end, on the table without physics."""

import json

import fake_environment

from vlm4vla import cli
from vlm4vla.commands import collect, replay


def test_collect_cache_replay_describe(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(collect, "expert_rig", fake_environment.rig)
    monkeypatch.setattr(replay, "expert_rig", fake_environment.rig)
    data, cache, docs = (str(tmp_path / name) for name in ("data", "cache", "docs"))

    # A task that is named twice is recorded once.
    words = ["collect", "--tasks", "pick", "reach", "pick", "--episodes", "8", "--out", data]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "16 episodes" in out
    assert "16/16 episodes" in err and "frames/s" in err

    assert cli.main(["cache", "--data", data, "--out", cache]) == 0
    assert "frames to learn from" in capsys.readouterr().out

    words = ["replay", "--data", data, "--tasks", "pick", "reach", "--episodes", "1", "--json"]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["tasks"]["pick"]["successes"] == found["tasks"]["reach"]["n"] == 1

    assert cli.main([*words[:-2], "99", "--json"]) == 2
    assert "undisturbed episodes of pick, not 99" in capsys.readouterr().err

    assert cli.main(["describe", "--data", data, "--out", docs]) == 0
    assert (tmp_path / "docs" / "data.md").is_file()


def test_replay_fails_the_gate_with_exit_code_1(monkeypatch, dataset, capsys):
    failed = {"n": 100, "successes": 89, "rate": 0.89}
    monkeypatch.setattr(replay, "expert_rig", fake_environment.rig)
    monkeypatch.setattr(replay, "gate", lambda *args: {"tasks": {"pick": failed}})
    assert cli.main(["replay", "--data", str(dataset), "--tasks", "pick"]) == 1
