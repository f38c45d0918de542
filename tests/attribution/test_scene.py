from dataclasses import replace

import numpy as np
import pytest

from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.attribution.inferences import apart, draw_inference, inference_of
from vlm4vla.attribution.scene import drawn_without
from vlm4vla.core.condition import Condition
from vlm4vla.core.episode import Episode, Trace
from vlm4vla.core.rollout import record
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import TABLETOP


@pytest.fixture(scope="module")
def episode(environment) -> Episode:
    spec = TABLETOP.spec("place", 3, Condition("known"))
    return record(TABLETOP, environment, ExpertAgent(), spec, "rollout")


def test_a_thing_is_gone_from_the_drawn_picture_and_the_rest_is_not(environment, episode):
    inference = inference_of(environment, episode, 0)
    without = drawn_without(environment, episode.spec, inference.pose, inference.names)
    movable = len(inference.pose.poses)
    assert list(without) == list(inference.names[:movable])
    for name, picture in without.items():
        changed = np.abs(picture.astype(int) - inference.question.picture).max(-1) > 8
        there = inference.things[name]
        # Its pixels change; what changes elsewhere is its shadow.
        assert changed[there].mean() > 0.8, name
        assert changed[~there].mean() < 0.03, name
        others = [mask for other, mask in inference.things.items() if other != name]
        assert changed[np.any(others, 0)].mean() < 0.1, name


def test_an_inference_is_drawn_as_it_was_seen(environment, episode):
    spec = episode.spec
    seen = environment.reset(spec, ["policy"])
    segmentation = environment.segmentation()
    drawn = draw_inference(environment, spec, seen.pose)
    np.testing.assert_array_equal(drawn.question.picture, seen.observation.images["policy"])
    assert drawn.question.instruction == spec.instruction
    # By truth every pixel is one thing's.
    np.testing.assert_array_equal(np.sum([*drawn.regions.values()], 0), np.ones((128, 128)))
    goal = drawn.names.index(spec.goal["object"])
    np.testing.assert_array_equal(drawn.regions["object"], segmentation == goal)
    np.testing.assert_array_equal(drawn.regions["object"], drawn.things[spec.goal["object"]])


def test_the_inference_of_a_step_is_the_one_whose_chunk_it_is_of(environment, episode):
    # The expert plans four actions at a time.
    assert inference_of(environment, episode, 6).step == 4
    with pytest.raises(UserError, match="no inference for step 999"):
        inference_of(environment, episode, 999)
    with pytest.raises(UserError, match="cannot be drawn"):
        inference_of(environment, replace(episode, trace=Trace.empty()), 0)


def test_an_expert_is_never_apart_from_itself(environment, episode):
    distances = apart(environment, episode)
    assert len(distances) == len(episode.predictions)
    assert max(distances) < 1.5
    # Another first action by 0.3 along x is 30 mm away.
    first = episode.predictions[0]
    chunk = first.chunk.copy()
    chunk[0, 0] += 0.3
    turned = replace(episode, predictions=(replace(first, chunk=chunk), *episode.predictions[1:]))
    assert apart(environment, turned)[0] == pytest.approx(30, abs=1.5)
