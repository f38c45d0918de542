from collections.abc import Iterator

import numpy as np
import pytest

from vlm4vla.core.condition import Condition
from vlm4vla.core.environment import Environment
from vlm4vla.errors import UserError
from vlm4vla.suites.maniskill.suite import TIME_LIMIT, instructed
from vlm4vla.suites.registry import MANISKILL

BOTH = ("policy", "view")
STACK = MANISKILL.spec("StackCube-v1", 4, Condition())
FORWARD = np.array([0.5, 0, -0.5, 0, 0, 0, 1], np.float32)


@pytest.fixture(scope="module")
def stock() -> Iterator[Environment]:
    opened = MANISKILL.open()
    yield opened
    opened.close()


def test_it_steps_and_draws_its_poses_again(stock: Environment):
    start = stock.reset(STACK, BOTH)
    assert (start.observation.step, start.events, start.success, start.done) == (
        0,
        (),
        False,
        False,
    )
    assert start.observation.images["policy"].shape == (128, 128, 3)
    assert start.observation.images["view"].shape == (384, 384, 3)
    assert start.pose is not None
    assert start.pose.joints.shape == (9,) and start.pose.poses.shape == (2, 7)
    # Two cubes of 4 cm lie on the table.
    assert start.pose.poses[:, 2] == pytest.approx([0.02, 0.02], abs=2e-3)
    seen = [start]
    for cameras in ((), (), (), (), (), BOTH):
        seen.append(stock.step(FORWARD, cameras))
    tip = seen[-1].observation.proprio
    assert tip[0] > start.observation.proprio[0] + 0.03
    assert tip[2] < start.observation.proprio[2] - 0.03
    assert tip[3] == pytest.approx(0.08, abs=2e-3)
    for moment in (seen[-1], seen[0]):
        drawn = stock.draw(STACK, moment.pose, BOTH)
        for camera in BOTH:
            off = np.abs(drawn.images[camera].astype(int) - moment.observation.images[camera])
            # PhysX rounds the table's rotation in the first step; edges of its texture follow.
            assert np.mean(off > 0) < 0.003 and off.max() <= 16
    first, last = (seen[i].observation.images["policy"].astype(int) for i in (0, -1))
    assert np.mean(np.abs(first - last) > 16) > 0.01, "the bound tells one moment from another"


def test_the_same_episode_again_is_the_same(stock: Environment):
    def played():
        moments = [stock.reset(STACK, ("policy",))]
        moments += [stock.step(FORWARD, ("policy",)) for _ in range(4)]
        return moments

    for one, two in zip(played(), played(), strict=True):
        np.testing.assert_array_equal(one.pose.joints, two.pose.joints)
        np.testing.assert_array_equal(one.pose.poses, two.pose.poses)
        np.testing.assert_array_equal(
            one.observation.images["policy"], two.observation.images["policy"]
        )


def test_only_asked_for_pictures_are_made_and_time_runs_out(stock: Environment):
    assert not stock.reset(STACK).observation.images
    for step in range(1, TIME_LIMIT + 1):
        moment = stock.step(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
        assert moment.done == (step == TIME_LIMIT)
    assert moment.events == ("timeout",) and not moment.observation.images


def test_what_it_has_not_is_refused(stock: Environment):
    stock.reset(STACK)
    with pytest.raises(UserError, match="StackCube-v1 tells no true state"):
        stock.privileged()
    with pytest.raises(UserError, match="StackCube-v1 tells no segmentation"):
        stock.segmentation()
    with pytest.raises(UserError, match=r"no environment 'Juggle-v1'.*StackCube-v1"):
        stock.reset(instructed("Juggle-v1", 0, "juggle", Condition()))
    fresh = MANISKILL.open()
    with pytest.raises(UserError, match=r"no episode.*reset\(\) before step"):
        fresh.step(FORWARD)
    fresh.close()
