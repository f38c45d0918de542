"""Several cells at a time, with processes that do nothing."""

import threading

import pytest

from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.files import write_json
from vlm4vla.studies import run, trained
from vlm4vla.studies.registry import STUDIES
from vlm4vla.studies.run import Runner, last_line
from vlm4vla.studies.trained import CHECKPOINT, RUN, folder_of

MEMBERS = STUDIES["initialisation"].members[:4]


class Idle(Runner):
    """Cells that take no time; `fails` is what becomes of some by their name."""

    fails: dict[str, BaseException] = {}

    def _run(self, core, member):
        self.seen.setdefault(core, []).append(member)
        # Neither core takes all of them.
        if len(self.seen) < 2:
            self.both.wait(10)
        self.both.set()
        if error := self.fails.get(member.cell.name):
            raise error


@pytest.fixture
def runner(tmp_path):
    told = []
    made = Idle(EpisodeTable.in_memory(), tmp_path, [0, 1], told.append)
    made.seen, made.both, made.told = {}, threading.Event(), told
    return made


def test_every_cell_is_run_once_on_one_of_the_cores(runner):
    runner.run(MEMBERS)
    assert sorted(runner.seen) == [0, 1]
    ran = [member.cell.name for some in runner.seen.values() for member in some]
    assert sorted(ran) == sorted(member.cell.name for member in MEMBERS)
    assert len(runner.told) == 4


def test_a_cell_that_fails_does_not_keep_the_others(runner):
    runner.fails = {MEMBERS[1].cell.name: UserError("The disk is full.")}
    with pytest.raises(UserError, match=r"seed 0: The disk is full\. .*--resume"):
        runner.run(MEMBERS)
    assert sum(map(len, runner.seen.values())) == 4


def test_cells_that_share_a_step_make_it_one_after_the_other(tmp_path, monkeypatch):
    """Two cells of one step at once: the second finds the VLM that the first has made."""
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    first, second = (STUDIES["injection"].members[one] for one in (1, 5))
    assert first.cell.step == second.cell.step
    made = []

    class Making(Runner):
        def _command(self, core, cell, words):
            if words[1] == "tokens":
                made.append(cell.name)
                # Time enough for the other to come too.
                self.other.wait(0.3)
                (folder_of(cell.step) / RUN / "vlm").mkdir(parents=True)

    monkeypatch.setattr(run, "check_step", lambda step, where: {"name": step.name})
    monkeypatch.setattr(run, "check_trained", lambda *args: {})
    monkeypatch.setattr(run, "done", lambda table, cell: True)
    monkeypatch.setattr(run, "measured", lambda cell: {})
    runner = Making(EpisodeTable.in_memory(), tmp_path, [0, 1], print)
    runner.other = threading.Event()
    runner.run([first, second])
    assert len(made) == 1


def test_what_was_trained_is_checked_whatever_account_is_shipped(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    cell = MEMBERS[0].cell
    monkeypatch.setattr(trained, "SHIPPED", tmp_path / "shipped")
    write_json(tmp_path / "shipped" / "cells" / f"{cell.name}.json", {"name": cell.name})
    # As a run leaves it that is killed after the training, before its account is written.
    (folder_of(cell) / RUN / CHECKPOINT).mkdir(parents=True)
    checked = []

    def check(cell, *more):
        checked.append(cell.name)
        return {"name": cell.name}

    monkeypatch.setattr(run, "check_trained", check)
    runner = Runner(EpisodeTable.in_memory(), tmp_path, [0], print)
    for _ in range(2):
        runner._train(0, MEMBERS[0])
    assert checked == [cell.name]


def test_what_nobody_foresaw_is_not_lost(runner):
    runner.fails = {MEMBERS[0].cell.name: ZeroDivisionError()}
    with pytest.raises(ZeroDivisionError):
        runner.run(MEMBERS)


def test_a_command_that_fails_tells_its_last_line(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM4VLA_HOME", str(tmp_path))
    monkeypatch.setattr(
        run.pinned, "argv", lambda *words: ["bash", "-c", "printf 'a\\rb\\n\\n'; exit 3"]
    )
    runner = Runner(EpisodeTable.in_memory(), tmp_path, [0], print)
    with pytest.raises(UserError, match=r"`vlm4vla train` ended with 3: b\. .*log\.txt"):
        runner.run(MEMBERS[:1])
    assert last_line(tmp_path / "nothing") == ""
