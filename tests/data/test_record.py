"""One recorded episode: its frames, its row, and what was changed on purpose in it."""

import fake_environment
import numpy as np
import pytest

from vlm4vla.data.record import record
from vlm4vla.suites.tabletop.instructions import Goal


@pytest.fixture(scope="module")
def recorded():
    """Episodes with all four combinations of noise and a near start."""
    rig = fake_environment.rig()
    found = {}
    for seed in range(1_000_000, 1_000_040):
        one = record(rig, "pick", seed)
        found.setdefault((one.recording.info.noise > 0, one.recording.info.start is not None), one)
    assert len(found) == 4
    return found


def test_the_row_says_what_the_frames_say(recorded):
    for (noisy, near), (recording, episode) in recorded.items():
        info, steps = recording.info, len(recording)
        assert np.array_equal(episode.actions, recording.action)
        assert (episode.steps, episode.trace.joints.shape) == (steps, (steps + 1, 4))
        assert np.array_equal(episode.trace.joints[:-1], recording.state)
        assert (episode.source, episode.agent.kind) == ("collection", "expert")
        assert (episode.spec.task, episode.spec.seed) == (info.task, info.seed)
        assert episode.spec.instruction == info.instruction
        assert Goal(**episode.spec.goal) == info.goal
        assert episode.outcome.success == recording.success[-1]
        changes = {one.name: dict(one.values) for one in episode.spec.condition.perturbations}
        wanted = {"noise": {"probability": 0.45}} if noisy else {}
        if near:
            wanted["start"] = dict(zip("xyz", info.start, strict=True))
        assert changes == wanted
        assert episode.spec.condition.words == "trained"
        assert recording.noisy.any() == noisy


def test_pixels_are_counted_for_things_alone(recorded):
    for recording, _ in recorded.values():
        # Squares of 8 x 8 pixels that nothing covers but other squares.
        assert recording.pixels.max() == 64
        assert recording.pixels.sum(axis=1).max() <= 64 * len(recording.info.things)


def test_a_policys_row_has_its_chunks_and_no_noise():
    recording, episode = record(fake_environment.policy_rig(), "pick", 1_000_000)
    assert (episode.agent.kind, episode.agent.digest) == ("policy", "0123")
    assert "noise" not in {one.name for one in episode.spec.condition.perturbations}
    assert [one.step for one in episode.predictions] == list(range(0, len(recording), 3))
    assert all(one.chunk.shape == (4, 7) for one in episode.predictions)
