import json
import shutil
from dataclasses import replace

import av
import pytest

from tests.studies.miniature import outcome
from vlm4vla.cli import main
from vlm4vla.commands import eval as eval_command
from vlm4vla.commands import rollout as rollout_command
from vlm4vla.commands.eval import membership
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import AgentId, Outcome
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.language.kinds import training_words
from vlm4vla.model.checkpoint import checkpoint_hash
from vlm4vla.model.policy import Policy
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.suites.tabletop.scene import sample_episode


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "untrained"
    Policy.from_vlm("qwen3-vl:tiny").save_pretrained(folder)
    return folder


def test_expert_prints_the_contract(capsys):
    assert (
        main(["expert", "--task", "reach", "--episodes", "2", "--first-seed", "7", "--json"]) == 0
    )
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["first_seed"] == 7
    row = answer["tasks"]["reach"]
    assert (row["n"], row["successes"], row["rate"], row["wrong_object"]) == (2, 2, 1.0, 0.0)
    # Wilson's lower bound for 2 of 2: 1 / (1 + 1.96^2 / 2).
    assert row["ci95"] == [0.3424, 1.0]


def test_eval_prints_the_contract_and_goes_on_where_it_stopped(checkpoint, tmp_path, capsys):
    command = ["eval", "--checkpoint", str(checkpoint), "--tasks", "reach", "--episodes", "2"]
    command += ["--first-seed", "50000", "--out", str(tmp_path), "--json"]
    assert main(command) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["checkpoint"] == checkpoint_hash(checkpoint)
    assert answer["tasks"]["reach"]["n"] == 2
    mine = Filter(agent=answer["checkpoint"])
    rows = EpisodeTable(tmp_path)
    assert answer["episodes"] == str(rows.database.path)
    first = sorted(rows.query(mine), key=lambda row: row.spec.seed)
    assert [row.spec.seed for row in first] == [50000, 50001]
    assert {row.kinds for row in first} == {("evaluation",)}
    # A killed run leaves fewer rows; the same command makes the missing one and no other.
    rows.drop(first[1].id)
    assert main(command) == 0
    again = sorted(rows.query(mine), key=lambda row: row.spec.seed)
    assert again[0] == first[0]
    for name in ("id", "spec", "outcome", "steps", "events"):
        assert getattr(again[1], name) == getattr(first[1], name)
    # The same task twice, and the same command once more, count nothing twice.
    twice = [*command[:4], "reach", "reach", *command[5:]]
    assert main(twice) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tasks"]["reach"]["n"] == 2
    assert rows.count(mine) == 2
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert main(["eval", "--checkpoint", str(copy), *command[3:], "--record"]) == 0
    kept = json.loads((copy / "policy.json").read_text())["evaluation"]
    assert kept["tasks"] == answer["tasks"] and kept["checkpoint"] == checkpoint_hash(copy)
    assert "n = 2, 95 % interval 0 to 66 %" in (copy / "README.md").read_text()


def test_episodes_are_kept_under_the_name_that_was_asked_for(monkeypatch):
    spec = TABLETOP.spec("reach", 0, Condition())

    def evaluate(suite, specs, make_agent, workers, report):
        for one in specs:
            report(outcome(AgentId("policy", "ab" * 8, "checkpoint"), one))

    monkeypatch.setattr(eval_command, "evaluate", evaluate)
    rows = EpisodeTable.in_memory()
    asked = AgentId("policy", "ab" * 8, "cell 0123456789ab")
    eval_command.run_missing(rows, [spec], asked, lambda: None, 1)
    assert [row.agent.name for row in rows.query()] == ["cell 0123456789ab"]


def test_eval_tells_new_words_from_new_combinations(checkpoint, tmp_path, monkeypatch, capsys):
    agent = AgentId("policy", checkpoint_hash(checkpoint), "checkpoint")

    def evaluate(suite, specs, make_agent, workers, report):
        for one in specs:
            known = training_words().issuperset(one.instruction.split())
            ended = Outcome("success" if known else "out of time", "It ended.")
            report(replace(outcome(agent, one), outcome=ended))

    monkeypatch.setattr(eval_command, "evaluate", evaluate)
    command = ["eval", "--checkpoint", str(checkpoint), "--tasks", "reach", "--episodes", "30"]
    assert main([*command, "--words", "held-out", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {why: row["rate"] for why, row in answer["held_out"].items()}
    assert found == {"combination": 1.0, "word": 0.0}
    counts = [row["n"] for row in answer["held_out"].values()]
    assert min(counts) >= 3 and sum(counts) == 30
    assert main([*command, "--words", "held-out", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "combination held out" in told and "word held out" in told
    assert main([*command, "--words", "broad", "--out", str(tmp_path), "--json"]) == 0
    assert "held_out" not in json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--checkpoint", ""], "The checkpoint has no name."),
        (["--checkpoint", "qwen3vl-tiny", "--cell", ""], "The cell has no name."),
        (["--checkpoint", "qwen3vl-tiny", "--cell", " "], "The cell has no name."),
    ],
)
def test_eval_refuses_names_of_nothing(words, why, capsys):
    assert main(["eval", *words]) == 2
    assert why in capsys.readouterr().err


def test_eval_refuses_seeds_that_training_may_use(checkpoint, capsys):
    command = ["eval", "--checkpoint", str(checkpoint), "--first-seed", "1000000"]
    assert main(command) == 2
    assert "not for evaluation" in capsys.readouterr().err


def test_figures_of_selection_scenes_come_into_no_card(checkpoint, capsys):
    command = ["eval", "--checkpoint", str(checkpoint), "--first-seed", "100000", "--record"]
    assert main(command) == 2
    assert "A card tells figures of test scenes" in capsys.readouterr().err
    spec = TABLETOP.spec("reach", 100_000, Condition())
    assert membership(spec) == Membership("selection")


def test_the_expert_is_not_evaluated_on_training_scenes(capsys):
    assert main(["expert", "--task", "reach", "--first-seed", "1000000"]) == 2
    assert "not for evaluation" in capsys.readouterr().err


def test_rollout_writes_a_film_and_what_happened(tmp_path, capsys):
    command = ["rollout", "--expert", "--task", "pick", "--seed", "7", "--out", str(tmp_path)]
    assert main([*command, "--most-steps", "5", "--execute", "2"]) == 0
    short = json.loads((tmp_path / "episode.json").read_text())
    assert (short["steps"], short["success"]) == (5, False)
    assert main(command) == 0
    episode = json.loads((tmp_path / "episode.json").read_text())
    asked = sample_episode("pick", 7, held_out=True)
    assert (episode["seed"], episode["instruction"]) == (7, asked.instruction)
    assert episode["success"] and episode["events"][-1] == [episode["steps"], "success"]
    assert len(episode["actions"]) == episode["steps"] and episode["checkpoint"] is None
    with av.open(str(tmp_path / "rollout.mp4")) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in film.decode(stream)) == episode["steps"] + 1


def test_rollout_with_numbers_that_are_usual_is_the_same_episode(tmp_path):
    command = ["rollout", "--expert", "--task", "reach", "--seed", "3", "--out", str(tmp_path)]
    found = []
    for more in ([], ["--execute", "4", "--most-steps", "60"], ["--execute", "1"]):
        assert main([*command, *more]) == 0
        found.append(json.loads((tmp_path / "episode.json").read_text())["id"])
    assert found[0] == found[1] != found[2]


@pytest.fixture
def no_simulator(monkeypatch):
    monkeypatch.setattr(rollout_command, "EnvironmentProcess", None)


def test_rollout_executes_no_more_than_is_planned(checkpoint, tmp_path, capsys, no_simulator):
    for who in (["--expert"], ["--checkpoint", str(checkpoint)]):
        command = ["rollout", *who, "--execute", "5", "--out", str(tmp_path / "out")]
        assert main(command) == 2
        assert "plans 4 actions at once. Execute at most 4." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rollout_tries_its_folder_before_the_episode(tmp_path, capsys, no_simulator):
    (tmp_path / "file").touch()
    assert main(["rollout", "--expert", "--out", str(tmp_path / "file")]) == 2
    assert "Could not write" in capsys.readouterr().err


def test_rollout_of_a_policy_in_a_stock_environment(checkpoint, tmp_path):
    command = ["rollout", "--checkpoint", str(checkpoint), "--env", "StackCube-v1"]
    assert main([*command, "--most-steps", "10", "--out", str(tmp_path)]) == 0
    episode = json.loads((tmp_path / "episode.json").read_text())
    assert episode["instruction"] == "stack the red cube on the green cube"
    assert episode["checkpoint"] == checkpoint_hash(checkpoint)
