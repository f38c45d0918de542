import dataclasses
import json

import fake_environment
import numpy as np
import pytest

from vlm4vla.action import tiny
from vlm4vla.data import demonstrator, record
from vlm4vla.data.lerobot import finish, parts
from vlm4vla.data.lerobot.reader import open_dataset
from vlm4vla.data.replay import TOLERANCE, as_learned, candidates, gate, replay
from vlm4vla.errors import UserError

SPEC = tiny((0.6, 0.6, 0.6, 0.0, 0.0, 0.0))


def undisturbed(monkeypatch, task="pick", seeds=(1_000_000,)):
    monkeypatch.setattr(demonstrator, "NOISY_STEPS", 0.0)
    monkeypatch.setattr(demonstrator, "NEAR_SHARE", 0.0)
    return [record.record(fake_environment.rig(), task, seed).recording for seed in seeds]


def refuse(state, goal, n):
    raise AssertionError("the expert was asked")


def test_scaling_gives_every_possible_label_back():
    label = np.array([[0.6, -0.6, 0.3, 0, 0, 0, 1], [0, 1e-3, -0.5999, 0, 0, 0, -1]], np.float32)
    assert np.allclose(as_learned(label, SPEC), label, atol=1e-7)
    # What the declared range cannot hold is clipped, as it would be in training.
    assert as_learned(np.array([[0.9, 0, 0, 0, 0, 0, 1]], np.float32), SPEC)[0, 0] == np.float32(
        0.6
    )


def test_without_physics_the_stored_labels_alone_solve_the_task(monkeypatch):
    for recording in undisturbed(monkeypatch, seeds=range(1_000_000, 1_000_010)):
        outcome = replay(fake_environment.FakeEnvironment(), refuse, recording, SPEC)
        assert outcome.success and not outcome.wrong_object
        assert outcome.stored == outcome.looks == -(-len(recording) // 4)


def test_wrong_labels_fail(monkeypatch):
    recording = undisturbed(monkeypatch)[0]
    broken = dataclasses.replace(recording, chunks=-recording.chunks)
    stuck = replay(
        fake_environment.FakeEnvironment(),
        lambda state, goal, n: np.zeros((n, 7), np.float32),
        broken,
        SPEC,
    )
    assert not stuck.success
    assert stuck.looks == fake_environment.LIMIT // 4


def shifted(recording, by):
    """The same episode with all things elsewhere after its first frame."""
    positions = recording.positions.copy()
    positions[1:] += np.float32(by)
    return dataclasses.replace(recording, positions=positions)


def test_the_expert_is_asked_where_the_recording_never_was(monkeypatch):
    recording = undisturbed(monkeypatch)[0]
    elsewhere = shifted(recording, 2 * TOLERANCE)
    outcome = replay(
        fake_environment.FakeEnvironment(), fake_environment.fake_plan, elsewhere, SPEC
    )
    assert (outcome.success, outcome.stored) == (True, 1)
    near = shifted(recording, 0.8 * TOLERANCE)
    assert replay(fake_environment.FakeEnvironment(), refuse, near, SPEC).stored > 1


def test_an_episode_that_begins_differently_now_is_refused(monkeypatch):
    recording = undisturbed(monkeypatch)[0]
    moved = dataclasses.replace(recording, state=recording.state + np.float32(2 * TOLERANCE))
    with pytest.raises(UserError, match="Seed 1000000 of pick does not give"):
        replay(fake_environment.FakeEnvironment(), fake_environment.fake_plan, moved, SPEC)


def test_rows_have_the_shape_of_the_expert_contract(monkeypatch, tmp_path):
    for index, recording in enumerate(undisturbed(monkeypatch, seeds=range(1_000_000, 1_000_003))):
        parts.write_part(tmp_path, index, recording)
    finish.finish(tmp_path, 3, {})
    dataset = open_dataset(tmp_path)
    lines = []
    found = gate(
        dataset,
        ["pick"],
        3,
        fake_environment.FakeEnvironment(),
        fake_environment.fake_plan,
        SPEC,
        lines.append,
    )
    assert json.loads(json.dumps(found)) == found
    assert found["first_seed"] == 1_000_000
    row = found["tasks"]["pick"]
    assert {"n", "successes", "rate", "ci95", "wrong_object"} <= set(row)
    assert (row["n"], row["successes"], row["rate"], row["stored_labels"]) == (3, 3, 1.0, 1.0)
    assert row["ci95"][0] == pytest.approx(0.4385, abs=1e-4)  # Wilson, 3 of 3
    assert lines == [
        "pick: 3/3 (100.0%, 95 % interval 43.9% to 100.0%), 100% of the labels from the dataset: "
        "passes"
    ]
    with pytest.raises(UserError, match="3 undisturbed episodes of pick, not 4"):
        candidates(dataset, "pick", 4)
    with pytest.raises(UserError, match="0 undisturbed episodes of reach"):
        candidates(dataset, "reach", 1)


def test_noisy_and_near_episodes_are_no_candidates(recordings, tmp_path):
    for index, recording in enumerate(recordings):
        parts.write_part(tmp_path, index, recording)
    finish.finish(tmp_path, len(recordings), {})
    dataset = open_dataset(tmp_path)
    clean = [
        index
        for index, recording in enumerate(recordings)
        if recording.info.task == "reach"
        and not recording.noisy.any()
        and recording.info.start is None
    ]
    assert set(candidates(dataset, "reach", len(clean))) == set(clean)
