import dataclasses

import numpy as np
import pytest

from vlm4vla.data.lerobot.schema import (
    EVENTS,
    FEATURES,
    MAX_GOALS,
    MAX_THINGS,
    arrow_schema,
    episode_info,
)
from vlm4vla.suites.tabletop.scene import LAYOUT_OF_TASK, sample_scene


def test_every_scene_fits_the_padded_columns():
    goals, things = set(), set()
    for layout in set(LAYOUT_OF_TASK.values()):
        for seed in range(400):
            scene = sample_scene(layout, seed)
            goals.add(len(scene.goals()))
            things.add(len(scene.objects) + len(scene.fixtures))
    assert max(goals) == MAX_GOALS
    assert max(things) == MAX_THINGS


def test_only_the_standard_columns_look_like_policy_inputs_or_actions():
    ours = [name for name in FEATURES if name.startswith(("observation", "action"))]
    assert ours == ["observation.images.policy", "observation.state", "action"]
    assert arrow_schema().names == list(FEATURES)


def test_episode_info_survives_json(recordings):
    for recording in recordings:
        assert episode_info(recording.info.to_json()) == recording.info
    with pytest.raises(ValueError, match="goals"):
        episode_info('{"task": "pick"}')


def test_arrays_of_another_shape_or_type_are_refused(recordings):
    first = recordings[0]
    with pytest.raises(ValueError, match="state"):
        dataclasses.replace(first, state=first.state.astype(np.float64))
    with pytest.raises(ValueError, match="chunks"):
        dataclasses.replace(first, chunks=first.chunks[:, :-1])


def test_fingerprint_depends_on_every_array_and_on_nothing_else(recordings):
    first = recordings[0]
    assert dataclasses.replace(first).fingerprint() == first.fingerprint()
    for field in dataclasses.fields(first):
        if field.name == "info":
            continue
        changed = np.array(getattr(first, field.name))
        changed.flat[-1] = not changed.flat[-1]
        assert dataclasses.replace(first, **{field.name: changed}).fingerprint() != (
            first.fingerprint()
        ), field.name


def test_a_recording_follows_the_labels_except_where_noise_was_added(recordings):
    for recording in recordings:
        goals = recording.info.goals
        followed = recording.chunks[:, goals.index(str(recording.info.goal)), 0]
        same = np.all(followed == recording.action, axis=1)
        assert np.array_equal(same, ~recording.noisy)
        assert recording.done.tolist() == [False] * (len(recording) - 1) + [True]
        assert recording.events[-1, EVENTS.index("success")] == recording.success[-1]
