import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import fake_environment
import numpy as np
import psutil
import pytest

import vlm4vla.files
from tests.waiting import until
from vlm4vla.commands import collect as command
from vlm4vla.data.collect import Settings, collect
from vlm4vla.data.lerobot import parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.episodes.filters import Filter
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError

SETTINGS = Settings(("reach", "pick"), 1_000_000, "expert")


def gather(out, episodes, workers=1, rig=fake_environment.rig, settings=SETTINGS, report=None):
    collect(out, settings, episodes, workers, rig, report or (lambda now: None))


def files(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def rows(folder, name):
    """Task and seed of every row of a dataset in the table of episodes."""
    found = EpisodeTable(folder).query(Filter(kind="collection", name=name, source="collection"))
    return {(row.spec.task, row.spec.seed) for row in found}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Six episodes, recorded by one process without interruption."""
    out = tmp_path_factory.mktemp("complete") / "data"
    gather(out, 3)
    return out


def test_tasks_never_share_a_seed_and_do_not_depend_on_each_other():
    alone = Settings(("pick",), 1_000_000, "expert")
    assert [SETTINGS.episode(i) for i in range(4)] == [
        ("reach", 1_000_000),
        ("pick", 1_000_001),
        ("reach", 1_000_005),
        ("pick", 1_000_006),
    ]
    assert [alone.episode(i) for i in range(2)] == [SETTINGS.episode(i) for i in (1, 3)]


def test_the_number_of_processes_changes_nothing(complete, tmp_path):
    seen = []
    before = psutil.Process().children()  # a browser, if tests of pages ran earlier
    gather(tmp_path / "two", 3, workers=2, report=seen.append)
    assert files(tmp_path / "two") == files(complete)
    assert rows(None, "two") == {SETTINGS.episode(index) for index in range(6)}
    assert [now.episodes for now in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].frames == len(open_dataset(complete))
    assert seen[-1].left == 0.0
    assert psutil.Process().children() == before


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fake_environment
from vlm4vla.data.collect import Settings, collect
if __name__ == "__main__":
    collect(Path(sys.argv[2]), Settings(("reach", "pick"), 1_000_000, "expert"), 3, 2,
            fake_environment.rig, lambda now: None)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_signal_loses_at_most_the_episodes_in_progress(complete, tmp_path, sent):
    out, home = tmp_path / "data", tmp_path / "home"
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", Path(__file__).parent, out],
        env=os.environ | {"FAKE_PAUSE": "0.05", "VLM4VLA_HOME": str(home)},
        stderr=subprocess.DEVNULL,
        # A shell that runs the tests in the background makes its children ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    until(
        lambda: len(parts.indices(out)) >= 2 or process.poll() is not None,
        60,
        lambda: parts.indices(out),
    )
    assert process.poll() is None
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sent)
    assert process.wait(30) == -sent
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    kept = {i: parts.part_path(out, i).read_bytes() for i in parts.indices(out)}
    assert 2 <= len(kept) < 6
    for index in kept:
        parts.read_part(parts.part_path(out, index)).frames()
    assert {SETTINGS.episode(index) for index in kept} <= rows(home / "table", "data")
    # What a process killed in the middle of a write leaves behind.
    (out / "parts" / ".episode-000005.parquet.x1y2.parquet").write_bytes(b"half")
    gather(out, 3)
    assert files(out) == files(complete)


def test_a_full_disk_is_one_message_and_loses_nothing(complete, tmp_path):
    out = tmp_path / "data"
    with pytest.raises(UserError, match=r"episodes.sqlite.*written before is intact"):
        gather(out, 3, rig=fake_environment.full_disk_rig)
    assert parts.indices(out) == {0, 1}
    assert [path for path in out.rglob(".*") if path.is_file()] == []
    gather(out, 3)
    assert files(out) == files(complete)


def test_a_disk_that_is_full_at_the_very_beginning_stands_in_nobodys_way(
    complete, tmp_path, monkeypatch
):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(vlm4vla.files, "_sync", full)
        with pytest.raises(UserError, match=r"settings\.json: No space left on device"):
            gather(out, 3)
    assert [path.name for path in out.rglob("*")] == ["parts"]
    gather(out, 3)
    assert files(out) == files(complete)


def test_killed_at_the_very_beginning_it_begins_again(complete, tmp_path):
    out = tmp_path / "data"
    (out / "parts").mkdir(parents=True)
    (out / "parts" / ".settings.json.x1y2.json").write_bytes(b"{")
    with pytest.raises(UserError, match="SIGKILL"):
        gather(out, 3, rig=fake_environment.crashing_rig)
    assert [path for path in out.rglob(".*") if path.is_file()] == []
    gather(out, 3)
    assert files(out) == files(complete)
    # What somebody else put there is theirs.
    (tmp_path / "mine" / "parts").mkdir(parents=True)
    (tmp_path / "mine" / "parts" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty"):
        gather(tmp_path / "mine", 3)


def test_a_process_that_dies_is_named_and_the_next_run_goes_on(complete, tmp_path):
    out = tmp_path / "data"
    with pytest.raises(UserError, match=r"SIGKILL.*same command"):
        gather(out, 3, rig=fake_environment.crashing_rig)
    assert parts.indices(out) == {0}
    gather(out, 3, workers=2)
    assert files(out) == files(complete)


def test_a_damaged_part_is_named_and_recorded_again_once_deleted(complete, tmp_path):
    out = tmp_path / "data"
    with pytest.raises(UserError):
        gather(out, 3, rig=fake_environment.full_disk_rig)
    path = parts.part_path(out, 1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        gather(out, 3)
    path.unlink()
    gather(out, 3)
    assert files(out) == files(complete)


def test_an_unfinished_collection_can_end_with_fewer_episodes(complete, tmp_path):
    with pytest.raises(UserError):
        gather(tmp_path / "data", 3, rig=fake_environment.full_disk_rig)
    gather(tmp_path / "data", 1)
    shorter, longer = open_dataset(tmp_path / "data"), open_dataset(complete)
    assert len(shorter.episodes) == 2
    for index in (0, 1):
        assert shorter.recording(index).fingerprint() == longer.recording(index).fingerprint()


def test_a_policy_visits_its_own_states_under_the_same_labels(tmp_path):
    settings = Settings(("pick",), 1_000_000, "policy 0123")
    gather(tmp_path / "data", 2, rig=fake_environment.policy_rig, settings=settings)
    dataset = open_dataset(tmp_path / "data")
    for index in (0, 1):
        recording = dataset.recording(index)
        assert recording.info.driver == "policy 0123"
        assert not recording.noisy.any()
        # The policy looks at every third frame and carries out three of the actions it gives.
        for look in range(0, len(recording) - 2, 3):
            said = fake_environment.wander(recording.images[look], recording.info.instruction)
            assert np.array_equal(recording.action[look : look + 3], said[:3])
        # Labels still lead to each goal's object: the first action points at it.
        for g, goal in enumerate(recording.info.goals):
            thing = next(n for n in recording.info.things if goal.split(": ")[1].startswith(n))
            away = (
                recording.positions[0, recording.info.things.index(thing)]
                - (recording.state[0, :3])
            )
            step = recording.chunks[0, g, 0, :3]
            assert np.dot(step, away) > 0.99 * np.linalg.norm(step) * np.linalg.norm(away)


def test_impossible_wishes_are_refused_before_anything_starts(complete, tmp_path):
    def refuse(match, out=tmp_path / "new", episodes=3, settings=SETTINGS):
        with pytest.raises(UserError, match=match):
            gather(out, episodes, settings=settings)

    refuse("Unknown task 'fly'", settings=Settings(("fly",), 1_000_000, "expert"))
    refuse("Nothing to record", episodes=0)
    refuse("named twice", settings=Settings(("pick", "reach", "pick"), 1_000_000, "expert"))
    refuse(
        "Seeds 1 to 11 are not all for training. Choose a first seed from 1000000 to 99999988:",
        settings=Settings(("pick",), 0, "expert"),
    )
    last = Settings(("pick",), 99_999_989, "expert")
    refuse("Seeds 99999990 to 100000000 are not", settings=last)
    refuse("finished dataset with other settings", out=complete, episodes=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    refuse("is not empty", out=tmp_path / "mine")
    assert not (tmp_path / "new").exists()
    gather(complete, 3)  # finished already: nothing to do


def test_other_settings_do_not_continue_a_collection(tmp_path):
    with pytest.raises(UserError):
        gather(tmp_path / "data", 3, rig=fake_environment.full_disk_rig)
    with pytest.raises(UserError, match="unfinished collection with other settings"):
        gather(tmp_path / "data", 3, settings=Settings(("reach", "pick"), 2_000_000, "expert"))


def test_two_collections_do_not_write_to_one_folder(tmp_path):
    import fcntl

    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(UserError, match="Another collection"):
            gather(tmp_path, 3)
    finally:
        os.close(handle)


def test_ctrl_c_tells_what_is_kept(tmp_path, monkeypatch, capsys):
    import argparse

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "collect", interrupted)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    code = command.run(parser.parse_args(["--episodes", "3", "--out", str(tmp_path)]))
    assert code == 130
    assert "0 episodes are kept" in capsys.readouterr().err
