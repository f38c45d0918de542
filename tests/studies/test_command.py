"""The studies in miniature: real trainings of three steps, episodes without a simulator."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

from synthetic import make_cache

from tests.studies import miniature
from vlm4vla import cli
from vlm4vla.commands import eval as eval_command
from vlm4vla.commands import study as command
from vlm4vla.core.episode import AgentId, AgentSpan, Outcome
from vlm4vla.data.cache import open_cache
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.studies import measuring, same_data, views
from vlm4vla.studies.cell import Cell, train_command
from vlm4vla.studies.measures import OF_CELL, Measured
from vlm4vla.studies.run import Runner
from vlm4vla.studies.study import Study, studies
from vlm4vla.studies.trained import account, folder_of
from vlm4vla.studies.views import Views
from vlm4vla.train.loop import train as loop


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("miniature")
    miniature.make(found, make_cache(episodes=12, frames=2))
    return found


class InProcess(Runner):
    """Carries commands out in this process, one after the other."""

    ended: list[str] = []

    def run(self, members):
        for member in members:
            self._run(0, member)

    def _command(self, core, cell, words):
        if code := cli.main(words):
            raise UserError(f"{words[0]} ended with {code}")
        self.ended.append(words[0])


@pytest.fixture
def known(folder, monkeypatch) -> dict[str, Study]:
    """The studies in miniature, in place of the real ones."""
    found = studies(miniature.scale(folder))
    monkeypatch.setattr(command, "STUDIES", found)
    monkeypatch.setattr(command, "Runner", InProcess)
    monkeypatch.setattr(command, "SHIPPED", Path("nothing-is-shipped"))
    monkeypatch.setattr(eval_command, "run_missing", miniature.run_missing)
    monkeypatch.setattr(eval_command, "evaluate", None)
    monkeypatch.setattr(InProcess, "ended", [])
    # What is measured is looked at in test_measures.py.
    monkeypatch.setattr(views, "views", miniature.views)
    monkeypatch.setattr(measuring, "measure", quickly)
    return found


def quickly(cell: Cell, views: Views, command: str, tell: object) -> None:
    """Measures of nothing, in no time."""
    agent = json.loads((folder_of(cell) / "cell.json").read_text())["agent"]
    found = Measured(cell.name, agent, views.fingerprint, command, 0.0, ())
    found.write(folder_of(cell) / OF_CELL)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(folder: Path, *words: str) -> int:
    return cli.main(["study", "run", *words, "--data", str(folder / "data")])


def content() -> list[tuple]:
    """The table without what depends on the clock."""
    table = EpisodeTable()
    found = [
        (row.id, row.outcome, table.memberships(row.id), table.get(row.id).actions.tobytes())
        for row in table.query(Filter(kind="study"), limit=1000)
    ]
    return sorted(found, key=lambda one: one[0])


def test_the_studies_are_listed_with_what_is_done(known, home, capsys):
    assert cli.main(["study", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["studies"]
    assert [study["name"] for study in found] == ["rate", "initialisation", "modules", "injection"]
    # One family and one training seed: two starts at two rates; three starts; four and the head;
    # four steps under two trainings.
    assert [len(study["cells"]) for study in found] == [4, 3, 5, 8]
    assert {cell["episodes"] for study in found for cell in study["cells"]} == {0}
    assert cli.main(["study", "list", "modules"]) == 0
    assert capsys.readouterr().out.count("(not run)") == 5


def test_the_papers_numbers_are_printed_without_the_table_of_episodes(home, monkeypatch, capsys):
    monkeypatch.setattr(command, "EpisodeTable", None)
    monkeypatch.setattr(command, "prepare", None)
    assert cli.main(["study", "paper"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 9 and told[0] == "main: Main results on three benchmarks (36 numbers)"
    assert cli.main(["study", "paper", "calvin-per-length"]) == 0
    told = capsys.readouterr().out
    assert "share of sequences with 5 or more sub-tasks done in a row" in told
    # Table 1: OpenVLA completes five in a row in 24.5 % of sequences.
    assert "◇ 0.245  ◇ paper Table 1" in told
    assert cli.main(["study", "paper", "scratch", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out.splitlines()[-1])["tables"]
    assert found.keys() == {"name", "title", "note", "columns", "rows"}
    assert [one["unit"] for one in found["columns"]] == ["sub-tasks out of 5", "success, %"]
    assert found["rows"][1]["entries"][0] == {
        "benchmark": "CALVIN ABC-D",
        "metric": "avg_len",
        "value": 0.284,
        "delta": -3.222,
        "source": "paper Table 4",
        "confidence": "secondary",
    }
    assert cli.main(["study", "paper", "--json"]) == 0
    every = json.loads(capsys.readouterr().out.splitlines()[-1])["tables"]
    assert sum(len(row["entries"]) for one in every for row in one["rows"]) == 343
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--seeds", "0", "77"], "has no training seed 77. It has 0."),
        (["--families", "qwen3-vl", "foo"], "has no family 'foo'. It has qwen3-vl."),
    ],
)
def test_a_choice_that_is_partly_unknown_is_refused(words, why, folder, known, home, capsys):
    assert run(folder, "modules", *words) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("initialisation", ("scratch", "scratch, the VLM's start")),
        ("modules", ("vision frozen", "only query and head")),
    ],
)
def test_two_cells_of_a_study_are_trained_and_evaluated(name, levels, folder, known, home, capsys):
    assert run(folder, name, "--cells", *levels, "--json") == 0
    cells = json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]
    assert [(cell["level"], cell["episodes"]) for cell in cells] == [(one, 4) for one in levels]
    assert InProcess.ended == ["train", "eval", "study"] * 2
    for cell in cells:
        account = json.loads((home / "studies" / cell["name"] / "cell.json").read_text())
        vision = [one for one in account["trained"] if one.startswith("base.visual")]
        assert bool(vision) == (name == "initialisation")
        assert "query" in account["trained"]
        if cell["level"] == "only query and head":
            assert {one.split(".")[0] for one in account["trained"]} == {"query", "head"}
    # What is done is not done again.
    assert run(folder, name, "--cells", *levels) == 0
    assert len(InProcess.ended) == 6


def test_cells_that_begin_with_the_same_vlm_make_it_once(folder, known, home, monkeypatch, capsys):
    levels = tuple(f"shuffled tokens to all, then vision {how}" for how in ("frozen", "trained"))
    assert run(folder, "injection", "--cells", *levels) == 0
    assert InProcess.ended == ["train", "train", "eval", "study", "train", "eval", "study"]
    cells = [m.cell for m in known["injection"].members if m.level in levels]
    step = cells[0].step
    assert cells[1].step == step
    accounts = [json.loads((home / "studies" / c.name / "cell.json").read_text()) for c in cells]
    assert accounts[0]["step"] == accounts[1]["step"]
    made = accounts[0]["step"]
    assert made["name"] == step.name and made["step"]["shuffled"] is True
    assert made["figures"]["nats"] > 0
    vlm = home / "studies" / step.name / "run" / "vlm"
    weights = hashlib.sha256((vlm / "model.safetensors").read_bytes()).hexdigest()
    assert made["weights"] == weights[:16]
    for cell in cells:
        recipe = json.loads((home / "studies" / cell.name / "run" / "recipe.json").read_text())
        assert recipe["start"] == hashlib.sha256(bytes.fromhex(weights)).hexdigest()[:16]
    # The account is written last; without it nothing is trained again that is there.
    (home / "studies" / cells[0].name / "cell.json").unlink()
    assert run(folder, "injection", "--cells", *levels, "--resume") == 0
    assert InProcess.ended[7:] == []
    # A second training makes the VLM again, too.
    monkeypatch.setattr(command.subprocess, "run", in_process)
    words = ["study", "verify", "injection", "--cell", cells[0].name, "--json"]
    capsys.readouterr()
    assert cli.main([*words, "--data", str(folder / "data")]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["same"], found["n"]) == (4, 4)
    again = home / "studies" / cells[0].name / "verified" / "step" / "vlm"
    assert (again / "model.safetensors").read_bytes() == (vlm / "model.safetensors").read_bytes()


def test_a_step_that_ends_anywhere_goes_on_to_the_same_vlm(
    folder, known, tmp_path, monkeypatch, capsys
):
    level = "tokens to language, then vision frozen"
    [cell] = [m.cell for m in known["injection"].members if m.level == level]
    weights = []
    for name in ("whole", "broken"):
        monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / name))
        if name == "broken":
            # While the VLM learns, in the second of three steps; and when it is there and the
            # policy begins to learn.
            for number in (2, 4):
                with monkeypatch.context() as patch, pytest.raises(Killed):
                    ending(patch, number)
                    run(folder, "injection", "--cells", level, "--resume")
                assert content() == []
                if number == 2:
                    # Begun before, and not by chance.
                    assert run(folder, "injection", "--cells", level) == 2
                    assert "--resume" in capsys.readouterr().err
        assert run(folder, "injection", "--cells", level, "--resume") == 0
        vlm = tmp_path / name / "studies" / cell.step.name / "run" / "vlm"
        weights.append((vlm / "model.safetensors").read_bytes())
        weights.append(content())
    assert weights[:2] == weights[2:]
    assert len(weights[1]) == 4


def ending(patch, number):
    """Ends the process in a step of the loop, counted from 1 over all trainings."""
    real, calls = loop._numbers, []

    def numbers(accelerator, sums):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return real(accelerator, sums)

    patch.setattr(loop, "_numbers", numbers)


def test_the_cell_of_two_studies_is_run_once(folder, known, home):
    assert run(folder, "initialisation", "--cells", "VLM") == 0
    assert run(folder, "modules", "--cells", "all") == 0
    assert InProcess.ended == ["train", "eval", "study"]


class Killed(BaseException):
    """Stands for the end of a process."""


def killed(*args):
    raise Killed


def test_an_evaluated_cell_is_measured_once(folder, known, home, monkeypatch, capsys):
    words = ["study", "measure", "modules", "--cells", "all"]
    assert cli.main(words) == 2
    assert "has 0 of 4 episodes" in capsys.readouterr().err
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(measuring, "measure", killed)
        run(folder, "modules", "--cells", "all")
    assert len(content()) == 4
    capsys.readouterr()
    assert cli.main(["study", "list", "modules"]) == 0
    [line] = [one for one in capsys.readouterr().out.splitlines() if " all, qwen3-vl" in one]
    assert "4 of 4 episodes" in line and line.endswith("(not measured)")
    # Begun before, and not by chance.
    assert run(folder, "modules", "--cells", "all") == 2
    assert "--resume" in capsys.readouterr().err
    InProcess.ended.clear()
    assert run(folder, "modules", "--cells", "all", "--resume", "--json") == 0
    assert InProcess.ended == ["study"]
    [cell] = json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]
    assert cell["measured"]
    # What is measured is not measured again, by whichever study it is named.
    monkeypatch.setattr(measuring, "measure", killed)
    assert run(folder, "initialisation", "--cells", "VLM") == 0
    assert cli.main([*words, "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out.splitlines()[-1])["cells"]
    assert told["name"] == cell["name"]
    assert told["trained"]["command"] == f"vlm4vla study measure --cells {cell['name']}"
    # Elsewhere the table and the account may be, and the policy is not.
    (home / "studies" / cell["name"] / OF_CELL).unlink()
    shutil.rmtree(home / "studies" / cell["name"] / "run")
    assert cli.main(words) == 2
    assert "Measure the cell where it was trained." in capsys.readouterr().err
    assert cli.main(["study", "measure"]) == 0
    assert "No cell is measured" in capsys.readouterr().out
    assert run(folder, "modules", "--cells", "all") == 0
    assert InProcess.ended == ["study"]
    assert cli.main(["study", "measure", "--cells", "nonsense"]) == 2
    assert "No study has a cell 'nonsense'" in capsys.readouterr().err


def test_a_run_that_ends_anywhere_goes_on_to_the_same_table(
    folder, known, tmp_path, monkeypatch, capsys
):
    levels = ("scratch", "VLM")
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "whole"))
    assert run(folder, "initialisation", "--cells", *levels) == 0
    whole = content()
    assert len(whole) == 8
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path / "broken"))
    # In training, in the second of three steps.
    with monkeypatch.context() as patch, pytest.raises(Killed):
        ending(patch, 2)
        run(folder, "initialisation", "--cells", *levels)
    assert content() == []
    # Begun before, and not by chance.
    assert run(folder, "initialisation", "--cells", *levels) == 2
    assert "--resume" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        # In evaluation, with two of four episodes in the table.
        made = []

        def outcome(agent, spec):
            if len(made) == 2:
                raise Killed
            made.append(spec)
            return real(agent, spec)

        real = miniature.outcome
        patch.setattr(miniature, "outcome", outcome)
        with pytest.raises(Killed):
            run(folder, "initialisation", "--cells", *levels, "--resume")
    assert len(content()) == 2
    with monkeypatch.context() as patch:
        # Between two cells.
        patch.setattr(InProcess, "_run", only_the_first(InProcess._run))
        with pytest.raises(Killed):
            run(folder, "initialisation", "--cells", *levels, "--resume")
    assert len(content()) == 4
    assert run(folder, "initialisation", "--cells", *levels, "--resume") == 0
    assert content() == whole


def only_the_first(real):
    done = []

    def one(self, core, member):
        if done:
            raise Killed
        done.append(member)
        real(self, core, member)

    return one


def test_the_same_episodes_of_another_kind_of_machine_are_taken_and_told(
    folder, known, home, monkeypatch, capsys
):
    found = studies(replace(miniature.scale(folder), data="there"))
    monkeypatch.setattr(command, "STUDIES", found)
    assert run(folder, "modules", "--cells", "vision frozen") == 2
    assert "(its frames are synthetic)" in capsys.readouterr().err
    monkeypatch.setattr(same_data, "ASKED", {"there": open_cache(folder / "data").asked})
    assert run(folder, "modules", "--cells", "vision frozen") == 0
    assert (
        "with other frames (synthetic), as another kind of machine gives" in capsys.readouterr().err
    )
    cell = next(one.cell for one in found["modules"].members if one.level == "vision frozen")
    told = account(cell)
    assert told is not None
    assert told["data"] == "synthetic"
    assert told["cell"]["data"] == "there"


def test_other_data_and_other_weights_are_refused_before_the_work(
    folder, known, home, monkeypatch, capsys
):
    other = SimpleNamespace(fingerprint="other", asked="other")
    monkeypatch.setattr(command, "open_cache", lambda path: other)
    assert run(folder, "modules") == 2
    assert "(its frames are other)" in capsys.readouterr().err
    assert cli.main(["study", "run", "modules", "--data", "nowhere"]) == 2
    assert "docs/studies.md" in capsys.readouterr().err
    assert run(folder, "modules", "--cores", "4096") == 2
    assert "There is no core 4096" in capsys.readouterr().err
    assert run(folder, "modules", "--cells", "nonsense") == 2
    assert "has no cell 'nonsense'" in capsys.readouterr().err
    assert InProcess.ended == []


def test_what_else_was_trained_is_refused(folder, known, home, monkeypatch):
    [vlm] = [one for one in known["initialisation"].members if one.level == "VLM"]
    other = known["modules"].members[1].cell
    monkeypatch.setattr(
        "vlm4vla.studies.run.train_command",
        lambda cell, data, out, vlm: train_command(other, data, out),
    )
    runner = InProcess(EpisodeTable(), folder / "data", [0], print)
    with pytest.raises(UserError, match=r"0 of \d+ parameters of the group vision learned"):
        runner._run(0, vlm)


def test_a_report_and_a_second_training_of_a_cell(folder, known, home, monkeypatch, capsys):
    real, kinds = miniature.outcome, ["dropped"]

    def outcome(agent, spec):
        episode = real(AgentId("policy", "whoever"), spec)
        ended = Outcome(kinds[0], kinds[0])
        return replace(episode, agents=(AgentSpan(agent),), outcome=ended)

    monkeypatch.setattr(miniature, "outcome", outcome)
    monkeypatch.setattr(command.subprocess, "run", in_process)
    assert run(folder, "modules", "--cells", "all") == 0
    capsys.readouterr()
    assert cli.main(["study", "report", "modules", "--json"]) == 0
    [study] = json.loads(capsys.readouterr().out.splitlines()[-1])["studies"]
    [cell] = [one for one in study["cells"] if one["level"] == "all"]
    assert cell["rates"]["all"]["n"] == 4 and cell["missing"] == 0
    assert cell["account"]["agent"] == cell["agent"]
    words = ["study", "verify", "modules", "--cell", cell["name"]]
    words += ["--data", str(folder / "data")]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["same"], found["n"]) == (4, 4)
    own = home / "studies" / cell["name"]
    for name in ("model.safetensors", "action.safetensors"):
        first, second = (own / at / "checkpoint" / name for at in ("run", "verified/run"))
        assert first.read_bytes() == second.read_bytes()
    # None of two a task then, which reaches up to 66 %; both of them now.
    kinds[0] = "success"
    mark = own / "verified" / "run" / "of the second training"
    mark.touch()
    assert cli.main(words) == 2
    assert not mark.exists() and (own / "verified" / "run" / "checkpoint").is_dir()
    told = capsys.readouterr().err
    assert "0 of 4 episodes are identical. reach 2 of 2, OUTSIDE 0 to 66 % (0 of 2)" in told
    # The second training is no part of the study.
    assert len(content()) == 4
    assert cli.main(["study", "verify", "modules", "--cell", "vision frozen", *words[-2:]]) == 2
    assert "nothing to compare with" in capsys.readouterr().err


def in_process(argv, **named):
    words = argv[argv.index(command.CLI) + 1 :]
    return SimpleNamespace(returncode=cli.main(words))
