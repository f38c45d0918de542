import json

import imageio.v3 as imageio
import numpy as np
import pytest

from tests.attribution.toys import small
from tests.shipped import shipped
from vlm4vla.agents.policy import load_agent
from vlm4vla.attribution import names, trust_check
from vlm4vla.attribution.methods import METHODS
from vlm4vla.attribution.target import TARGETS
from vlm4vla.attribution.trust_results import TrustTable
from vlm4vla.cli import main
from vlm4vla.commands import attribute, trust
from vlm4vla.core.condition import Condition
from vlm4vla.core.rollout import record
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.suites.registry import TABLETOP


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of random weights."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    small("qwen3-vl").save_pretrained(folder)
    return folder


@pytest.fixture
def lent(environment, monkeypatch):
    """Lends the session's simulator to the commands, which would each start one of their own."""

    class Lent:
        reset, step, draw = environment.reset, environment.step, environment.draw
        privileged, perturbations = environment.privileged, environment.perturbations
        action = environment.action

        def close(self):
            pass

    for command in (attribute, trust):
        monkeypatch.setattr(command, "EnvironmentProcess", lambda suite: Lent())


def test_attribute_explains_a_first_action_and_keeps_it(
    checkpoint, lent, tmp_path, capsys, monkeypatch
):
    command = ["attribute", "--checkpoint", str(checkpoint), "--task", "place", "--seeds", "3"]
    command += ["--method", "gradient", "--out", str(tmp_path)]
    assert main(command) == 0
    [line] = capsys.readouterr().out.splitlines()
    base = tmp_path / "place-000003-gradient-displacement"
    told = json.loads(base.with_suffix(".json").read_text())
    assert told["checkpoint"] == checkpoint_hash(checkpoint)
    assert (told["step"], told["unit"], told["reference"]) == (0, "mm", None)
    assert told["instruction"] in line
    # By truth every pixel is one thing's, so shares are whole.
    parts = {"object", "goal", "gripper", "robot", "others", "background"}
    for shares in (told["mass"], told["pixels"]):
        assert set(shares) == parts
        assert sum(shares.values()) == pytest.approx(1)
    assert 0 < told["pixels"]["object"] < 0.2
    assert len(told["deletion"]["random_areas"]) == 5
    # What can move was also drawn away; what is fixed was painted over.
    goal = TABLETOP.spec("place", 3, Condition("known")).goal
    assert set(told["things"][goal["object"]]) == {"mean", "grey", "blur", "drawn without"}
    assert set(told["things"][goal["target"]]) == {"mean", "grey", "blur"}
    assert [one["word"] for one in told["words"]] == told["instruction"].lower().split()
    replaced = {one["word"] for one in told["words"] if one["replaced"] is not None}
    assert replaced == {*goal["object"].split(), *goal["target"].split()}
    with np.load(base.with_suffix(".npz")) as kept:
        assert kept["map"].shape == (8, 8) and kept["picture"].shape == (128, 128, 3)
        assert np.abs(kept["map"]).max() == told["scale"]
        assert float(kept["target"]) == told["value"]
    assert imageio.imread(base.with_suffix(".png")).shape == (512, 512, 3)
    # The same again is told from what is there; what another run left is done anew, but for maps
    # of another checkpoint.
    marked = {**told, "value": 12345.0}
    base.with_suffix(".json").write_text(json.dumps(marked))
    assert main(command) == 0
    assert "12345.0 mm" in capsys.readouterr().out
    base.with_suffix(".json").write_text(json.dumps({**marked, "stride": 0}))
    monkeypatch.setattr(attribute, "_explain", lambda *_: told)
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [line]
    base.with_suffix(".json").write_text(json.dumps({**marked, "checkpoint": "another"}))
    # Said before the scenes that come first are explained.
    assert main([*command, "--seeds", "2", "3"]) == 2
    told = capsys.readouterr()
    assert "a map of another checkpoint, another. Choose" in told.err and not told.out


def test_attribute_explains_a_stored_episode_from_its_poses(
    checkpoint, environment, lent, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "small").symlink_to(checkpoint)
    spec = TABLETOP.spec("reach", 5, Condition("known", max_steps=6))
    agent = load_agent(checkpoint)
    episode = record(TABLETOP, environment, agent, spec, "rollout")
    EpisodeTable().put(episode)
    command = ["attribute", "--run", episode.id, "--step", "5", "--out", str(tmp_path)]
    command += ["--method", "gradient", "--target", "gripper"]
    assert main(command) == 0
    base = tmp_path / f"{episode.id}-005-gradient-gripper"
    told = json.loads(base.with_suffix(".json").read_text())
    assert (told["episode"], told["step"]) == (episode.id, 4)
    assert f"step 4, {spec.instruction!r}" in capsys.readouterr().out
    # The picture drawn again makes the policy predict what it predicted then.
    with np.load(base.with_suffix(".npz")) as kept:
        again = agent.policy.act(kept["picture"][None], [spec.instruction])[0]
    np.testing.assert_allclose(again, episode.predictions[1].chunk, atol=1e-4)
    # One layer of the attention is another map, under another name.
    command[-3] = "attention"
    assert main(command) == 0 and main([*command, "--layer", "0"]) == 0
    maps = []
    for layer in ("", "-0"):
        with np.load(tmp_path / f"{episode.id}-005-attention{layer}-gripper.npz") as kept:
            maps.append(kept["map"])
    assert not np.allclose(*maps)


def test_attribute_explains_what_the_policy_was_given_and_not_what_was_there(
    lent, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    [episode] = shipped("qwen3vl-tiny-ablation", ["b48a1775babec45f"], tmp_path).values()
    EpisodeTable().put(episode)
    command = ["attribute", "--run", episode.id, "--step", "5", "--out", str(tmp_path)]
    assert main(command) == 0
    line = capsys.readouterr().out
    assert "step 4, '' under picture-blank (level 128), sentence-empty: " in line
    base = tmp_path / f"{episode.id}-005-occlusion-displacement"
    told = json.loads(base.with_suffix(".json").read_text())
    assert (told["instruction"], told["words"]) == ("", [])
    assert [one["name"] for one in told["perturbations"]] == ["picture-blank", "sentence-empty"]
    with np.load(base.with_suffix(".npz")) as kept:
        assert (kept["picture"] == 128).all()
        # A cell that shows the mean colour of one grey shows what it had shown.
        assert np.abs(kept["map"]).max() < 1e-3
    # The value is how far the first action goes that the policy predicted then.
    assert told["value"] == pytest.approx(
        100 * np.linalg.norm(episode.predictions[1].chunk[0, :3]), abs=0.05
    )


def test_attribute_tells_no_places_where_things_are_not_where_they_are_drawn(
    lent, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    [episode] = shipped("qwen3vl-tiny-ablation", ["0080fa5f9bb1ac15"], tmp_path).values()
    EpisodeTable().put(episode)
    command = ["attribute", "--run", episode.id, "--method", "gradient", "--out", str(tmp_path)]
    assert main(command) == 0
    base = tmp_path / f"{episode.id}-000-gradient-displacement"
    told = json.loads(base.with_suffix(".json").read_text())
    assert told["instruction"] == "go and touch the green cube" != episode.spec.instruction
    assert told["mass"] == {} and "of the pixels" not in capsys.readouterr().out
    # Drawn without a thing, the picture's patches are shuffled all the same.
    assert all(set(ways) == {"drawn without"} for ways in told["things"].values())
    assert max(abs(ways["drawn without"]) for ways in told["things"].values()) < told["value"]


def test_attribute_refuses_an_episode_whose_policy_was_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    [episode] = shipped("qwen3vl-tiny-ablation", ["53d06c6d3f67248d"], tmp_path).values()
    EpisodeTable().put(episode)
    assert main(["attribute", "--run", episode.id, "--out", str(tmp_path)]) == 2
    assert "the policy itself was changed (skip-head)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Whom to explain"),
        (["--checkpoint", "qwen3vl-tiny", "--step", "4"], "needs an episode"),
        (["--checkpoint", "qwen3vl-tiny", "--seeds", "-1"], "start at 0"),
        (["--run", "0123456789abcdef"], "no such"),
        (["--checkpoint", "qwen3vl-tiny", "--layer", "0"], "Only attention"),
        (["verify", "--seeds", "3"], "belongs to a checkpoint"),
        *(
            (["verify", "--seeds", "3", "--checkpoint", "qwen3vl-tiny", *more], "chooses nothing")
            for more in (
                ["--method", "occlusion"],
                ["--target", "displacement"],
                ["--layer", "0"],
                ["--step", "0"],
            )
        ),
        (["--run", "b48a1775babec45f", "--seeds", "3"], "its own task and scene"),
        (["--run", "b48a1775babec45f", "--task", "pick"], "its own task and scene"),
        (["--checkpoint", "qwen3vl-tiny", "--json"], "one of its files"),
    ],
)
def test_attribute_says_what_it_cannot_do(words, why, tmp_path, capsys):
    assert main(["attribute", *words, "--out", str(tmp_path)]) == 2
    assert why in capsys.readouterr().err


def test_attribute_tries_its_folder_before_it_loads_anything(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vlm4vla.agents.policy.load_agent", None)
    (tmp_path / "file").touch()
    command = ["attribute", "--checkpoint", "qwen3vl-tiny", "--out", str(tmp_path / "file")]
    assert main(command) == 2
    assert "Could not write" in capsys.readouterr().err


def test_attribute_offers_every_method_and_target():
    assert (list(METHODS), list(TARGETS)) == (list(names.METHODS), list(names.TARGETS))


def test_trust_measures_every_method_and_goes_on_where_it_stopped(
    checkpoint, lent, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "trust"
    command = ["trust", "--checkpoint", str(checkpoint), "--tasks", "reach", "--out", str(out)]
    command += ["--randomised", "1", "--json"]
    assert main([*command, "--seeds", "7"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["checkpoint"] == checkpoint_hash(checkpoint)
    assert (answer["episodes"], answer["randomised"]) == (1, 1)
    assert answer["core_minutes"] > 0 and len(answer["verdict"]) == 2
    assert answer == json.loads((out / "trust.json").read_text())
    asked = {(row["when"], row["target"], row["method"]) for row in answer["rows"]}
    assert asked == {
        (when, target, method)
        for when in ("first", "parting")
        for target in ("displacement", "gripper")
        for method in METHODS
    }
    for row in answer["rows"]:
        assert row["n"] == 1 and 0 <= row["infidelity"]["mean"] <= 1
        assert set(row["agreement"]) == {*METHODS} - {row["method"]}
        assert row["collapse"]["n"] == (row["when"] == "first")
    # Only the new scene is measured; the other is read.
    kept = out / "episodes" / "reach-000007.json"
    told = json.loads(kept.read_text())
    first, later = told["inferences"]
    assert (first["step"], first["when"], later["when"]) == (0, "first", "parting")
    assert later["step"] % 4 == 0 < later["step"]
    measured = []
    monkeypatch.setattr(
        trust, "_measure", lambda agent, environment, spec, _: measured.append(spec.seed) or told
    )
    assert main([*command, "--seeds", "7", "8"]) == 0
    assert measured == [8]
    table = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert table["episodes"] == 2
    # Other scenes are set against the table, which is found by the checkpoint alone.
    asked = []
    counts = table["episodes"], table["randomised"]
    shipped = TrustTable("small", "", table["command"], *counts, tuple(table["rows"]))
    monkeypatch.setattr(
        trust_check, "shipped_table", lambda digest: asked.append(digest) or shipped
    )
    verify = ["attribute", "verify", "--checkpoint", str(checkpoint), "--task", "reach"]
    verify += ["--seeds", "9", "10", "--out", str(tmp_path / "other")]
    assert main(verify) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"shipped: {table['command']}"
    assert len(said) == 2 and " measures agree with the shipped table" in said[1]
    assert asked == [checkpoint_hash(checkpoint)] and measured == [8, 9, 10]
    capsys.readouterr()
    of_push = [word if word != "reach" else "push" for word in verify]
    assert main([*of_push[:-1], str(tmp_path / "push")]) == 0
    assert "over reach, and this one over push: they may differ" in capsys.readouterr().err
    # The table's own scenes say nothing new of it, and neither does nothing.
    assert main([*verify[:-4], "8", "9", *verify[-2:]]) == 2
    assert "was measured in scene 8" in capsys.readouterr().err
    assert main([*verify[:-5], *verify[-2:]]) == 2
    assert "Name --checkpoint and --seeds" in capsys.readouterr().err
    shifted = table["rows"][0]["infidelity"]
    shifted |= {name: shifted[name] + 1 for name in ("mean", "low", "high")}
    assert main([*verify, "--json"]) == 0
    checks = json.loads(capsys.readouterr().out.splitlines()[-1])
    [bad] = [one for one in checks if not one["holds"]]
    assert (bad["measure"], bad["high"]) == ("infidelity", pytest.approx(-1))
