"""Episodes rendered again from seeds, actions and poses."""

import argparse
from dataclasses import replace

import fake_environment
import numpy as np
import pytest

from vlm4vla import cli
from vlm4vla.commands import data as command
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Outcome, Trace
from vlm4vla.data import restore, rigs
from vlm4vla.data.collect import Settings, collect
from vlm4vla.data.lerobot import parts
from vlm4vla.data.record import record
from vlm4vla.data.restore import Rounding, restored
from vlm4vla.data.store import expected_of
from vlm4vla.episodes.filters import Filter, Membership
from vlm4vla.episodes.parquet import export, import_
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP


def nudged(episode, by=1e-6):
    """The same episode as another machine would have stored it."""
    trace = episode.trace
    return replace(episode, trace=Trace(trace.joints + np.float32(by), trace.poses))


@pytest.mark.parametrize("make", [fake_environment.rig, fake_environment.policy_rig])
def test_where_physics_repeats_itself_every_bit_is_the_same(make):
    for seed in range(1_000_000, 1_000_012):  # with and without noise and near starts
        recording, episode = record(make(), "pick", seed)
        assert restored(make(), episode)[0].fingerprint() == recording.fingerprint()


def test_what_physics_does_not_repeat_is_drawn_from_the_poses():
    recording, episode = record(fake_environment.rig(), "pick", 1_000_010)
    # Carried out, these actions lead nowhere near the stored poses.
    elsewhere = replace(nudged(episode), actions=np.ones_like(episode.actions))
    found, _ = restored(fake_environment.rig(), elsewhere)
    assert np.allclose(found.state, recording.state, atol=2e-6)
    assert np.array_equal(found.positions, recording.positions)
    assert np.array_equal(found.pixels, recording.pixels)
    # The first row of the table without physics shows the time.
    assert np.array_equal(found.images[:, 1:], recording.images[:, 1:])
    for name in ("noisy", "events", "success", "done"):
        assert np.array_equal(getattr(found, name), getattr(recording, name))
    assert np.array_equal(found.action, elsewhere.actions)


@pytest.fixture(scope="module")
def real():
    rig = rigs.expert_rig()
    yield rig
    rig.environment.close()


def test_the_simulator_gives_a_recorded_episode_again(real, monkeypatch):
    recording, episode = record(real, "place", 1_000_008)
    assert restored(real, episode)[0].fingerprint() == recording.fingerprint()
    near, _ = restored(real, nudged(episode))
    # A nudge of a micrometre shows at edges only.
    assert (near.images != recording.images).any(axis=-1).mean() < 0.01
    assert np.array_equal(near.velocity, recording.velocity)
    assert np.abs(near.chunks - recording.chunks).max() < 0.002
    monkeypatch.setattr(restore, "NEAR", -1.0)
    predicted, _ = restored(real, nudged(episode))
    error = np.abs(predicted.velocity - recording.velocity).mean()
    assert error < 0.15 * np.abs(recording.velocity).mean()
    followed = recording.info.goals.index(str(recording.info.goal))
    assert np.abs(predicted.chunks - recording.chunks)[:, followed].mean() < 0.005
    # What is done first depends on what a picture shows alone.
    assert np.abs(predicted.chunks - recording.chunks)[:, :, 0].max() < 0.002


def files(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A dataset of six episodes and its rows in a file."""
    folder = tmp_path_factory.mktemp("collected")
    settings = Settings(("reach", "pick"), 1_000_000, "expert")
    collect(folder / "six", settings, 3, 1, fake_environment.rig, lambda now: None)
    wanted = Filter(kind="collection", name="six")
    assert export(EpisodeTable(), folder / "six.parquet", wanted) == 6
    return folder


def test_the_command_makes_the_dataset_that_was_collected(collected, tmp_path, monkeypatch, capsys):
    file, out = str(collected / "six.parquet"), tmp_path / "six"
    monkeypatch.setattr(command, "expert_rig", fake_environment.crashing_rig)
    assert cli.main(["data", "restore", file, "--out", str(out), "--workers", "1"]) == 2
    assert "SIGKILL" in capsys.readouterr().err
    assert parts.indices(out) == {0}
    monkeypatch.setattr(command, "expert_rig", fake_environment.rig)
    assert cli.main(["data", "restore", file, "--out", str(out), "--json"]) == 0
    assert '"episodes": 6' in capsys.readouterr().out
    assert files(out) == files(collected / "six")
    assert cli.main(["data", "restore", file, "--out", str(out)]) == 0  # nothing left to do


def test_another_file_is_not_the_same_restoration(collected, tmp_path):
    """The files agree in tasks, first seed, driver and number of episodes a task."""
    six = EpisodeTable.in_memory()
    import_(collected / "six.parquet", six)
    # reach and pick in turns, of seeds 1,000,000 and 1, 5 and 6, 10 and 11.
    rows = sorted(six.query(), key=lambda row: row.spec.seed)
    chosen = {"a": (0, 1, 2, 3), "b": (1, 2, 3, 4), "c": (0, 1, 4, 5), "fewer": (0, 1, 2)}
    for name, numbers in chosen.items():
        table = EpisodeTable.in_memory()
        for number in numbers:
            table.put(six.get(rows[number].id), [Membership("collection", name)])
        export(table, tmp_path / f"{name}.parquet")

    def make(name, out, rig=fake_environment.rig):
        restore.restore(tmp_path / f"{name}.parquet", tmp_path / out, 1, rig, lambda now: None)

    with pytest.raises(UserError, match="SIGKILL"):
        make("a", "out", fake_environment.crashing_rig)
    assert parts.indices(tmp_path / "out") == {0}
    with pytest.raises(UserError, match=r"episode 0, reach of seed 1000000, is not .* Choose"):
        make("b", "out")
    assert parts.indices(tmp_path / "out") == {0}
    make("a", "out")
    made = files(tmp_path / "out")
    with pytest.raises(UserError, match=r"episode 2, reach of seed 1000005, is not .* Choose"):
        make("c", "out")
    with pytest.raises(UserError, match="finished dataset of 4 episodes, not of 3"):
        make("fewer", "out")
    make("a", "out")
    assert files(tmp_path / "out") == made


def test_what_no_dataset_can_be_made_of_is_refused_before_anything_starts(tmp_path):
    _, good = record(fake_environment.rig(), "pick", 1_000_000)
    spec = good.spec
    reported = TABLETOP.spec("pick", 3, Condition("trained"))
    for match, episodes in (
        ("holds no episodes", []),
        ("has the seed 3, which is not for training", [good, replace(good, spec=reported)]),
        ("is of the suite maniskill", [replace(good, spec=replace(spec, suite="maniskill"))]),
        ("has no goal", [replace(good, spec=replace(spec, goal={}))]),
        ("stopped by a person", [replace(good, outcome=Outcome("stopped", ""))]),
        (
            "begun by another agent",
            [replace(good, spec=replace(spec, parent="0" * 16, branch_step=1))],
        ),
    ):
        table = EpisodeTable.in_memory()
        for episode in episodes:
            table.put(episode, [Membership("collection", "mine")])
        export(table, tmp_path / "mine.parquet")
        with pytest.raises(UserError, match=match):
            restore.restore(
                tmp_path / "mine.parquet", tmp_path / "out", 1, fake_environment.rig, print
            )
        assert not (tmp_path / "out").exists()


def test_an_episode_without_poses_is_named():
    _, episode = record(fake_environment.rig(), "pick", 1_000_000)
    with pytest.raises(UserError, match=f"{episode.id} has no pose for every step"):
        restored(fake_environment.rig(), replace(episode, trace=Trace.empty()))


def test_a_stored_round_says_whether_it_came_out_as_it_was(
    collected, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(command, "expert_rig", fake_environment.rig)
    file, out = tmp_path / "round.parquet", tmp_path / "again"
    assert cli.main(["data", "store", str(collected / "six"), "--out", str(file), "--json"]) == 0
    assert f'"bytes": {file.stat().st_size}' in capsys.readouterr().out
    assert cli.main(["data", "restore", str(file), "--out", str(out), "--json"]) == 0
    assert '"same": 6' in capsys.readouterr().out
    assert files(out) == files(collected / "six")
    # Others read it as any table of episodes.
    table = EpisodeTable.in_memory()
    assert import_(file, table) == 6
    # A picture that another renderer draws otherwise is counted, not refused.
    other = fake_environment.FakeEnvironment._image
    monkeypatch.setattr(
        fake_environment.FakeEnvironment, "_image", lambda self: other(self) ^ np.uint8(1)
    )
    key, expected = next(iter(expected_of(file).items()))
    redrawn, repeated = restored(fake_environment.rig(), table.get(key))
    assert repeated and redrawn.fingerprint() != expected.whole
    assert redrawn.fingerprint_of_values() == expected.values
    # Where physics goes another way, labels may differ a little.
    gone, repeated = restored(fake_environment.rig(), nudged(table.get(key)))
    assert not repeated and gone.fingerprint_of_values() != expected.values


def hesitant(state, goal, n):
    return 0.5 * fake_environment.fake_plan(state, goal, n)


def hesitant_rig():
    return replace(fake_environment.rig(), plan=hesitant)


def test_labels_that_this_version_makes_otherwise_are_refused(
    collected, tmp_path, monkeypatch, capsys
):
    file, out = tmp_path / "round.parquet", tmp_path / "again"
    assert cli.main(["data", "store", str(collected / "six"), "--out", str(file)]) == 0
    monkeypatch.setattr(command, "expert_rig", hesitant_rig)
    words = ["data", "restore", str(file), "--out", str(out), "--workers", "1"]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert "moves as it did" in told and "come out as others: 3 of 3 such episodes" in told


def test_a_machine_that_rounds_otherwise_is_not_another_version():
    """Of 60 episodes 3 may come out with other values; a fourth is too many."""
    rounding = Rounding()
    for number in range(57):
        rounding.count(f"{number}", True)
    for number in range(57, 60):
        rounding.count(f"{number}", False)
    with pytest.raises(UserError, match="4 of 61 such episodes"):
        rounding.count("60", False)
    # Two of two may be chance.
    rounding = Rounding()
    rounding.count("0", False)
    rounding.count("1", False)
    with pytest.raises(UserError, match="3 of 3"):
        rounding.count("2", False)


def test_a_dataset_whose_rows_are_elsewhere_is_not_stored(dataset, tmp_path, capsys):
    out = tmp_path / "round.parquet"
    assert cli.main(["data", "store", str(dataset), "--out", str(out)]) == 2
    assert "lacks episode 0" in capsys.readouterr().err
    assert not out.exists()


def test_somebody_has_to_render(tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["restore", str(tmp_path / "x"), "--out", str(tmp_path), "--workers", "0"]
    with pytest.raises(UserError, match="at least one worker"):
        command.run(parser.parse_args(words))
