import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.waiting import Output
from tests.workers.processes import gone
from vlm4vla.agents.expert import ExpertAgent
from vlm4vla.core.condition import Condition
from vlm4vla.core.rollout import rollout
from vlm4vla.errors import UserError
from vlm4vla.suites.registry import MANISKILL, TABLETOP
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.suite import goal_of
from vlm4vla.workers.environment import EnvironmentPool, EnvironmentProcess

BOTH = ("policy", "view")


def spec(task, seed):
    return TABLETOP.spec(task, seed, Condition())


@pytest.fixture(scope="module")
def process():
    simulator = EnvironmentProcess(TABLETOP)
    yield simulator
    simulator.close()


def test_nothing_is_told_before_the_first_episode():
    simulator = EnvironmentProcess(TABLETOP)
    assert "start" in simulator.perturbations and "light" in simulator.perturbations
    with pytest.raises(UserError, match="no episode"):
        simulator.privileged()
    with pytest.raises(UserError, match=r"no episode.*reset\(\) before step"):
        simulator.step(np.zeros(7, np.float32))
    assert simulator.alive
    simulator.close()


def test_same_episode_here_and_in_another_process(process, environment):
    asked = spec("stack", 8)
    here, there = environment.reset(asked, BOTH), process.reset(asked, BOTH)
    while not here.done:
        state = environment.privileged()
        np.testing.assert_array_equal(state.positions, process.privileged().positions)
        assert set(here.observation.images) == set(BOTH) == set(there.observation.images)
        for camera in BOTH:
            np.testing.assert_array_equal(
                here.observation.images[camera], there.observation.images[camera]
            )
        np.testing.assert_array_equal(here.observation.proprio, there.observation.proprio)
        np.testing.assert_array_equal(here.pose.joints, there.pose.joints)
        np.testing.assert_array_equal(environment.segmentation(), process.segmentation())
        action = expert.act(state, goal_of(asked))
        here, there = environment.step(action, BOTH), process.step(action, BOTH)
        assert here.events == there.events
    assert there.success
    there = process.draw(asked, here.pose, ("policy",), segmentation=True)
    here = environment.draw(asked, here.pose, ("policy",), segmentation=True)
    np.testing.assert_array_equal(here.images["policy"], there.images["policy"])
    np.testing.assert_array_equal(here.segmentation, there.segmentation)
    np.testing.assert_array_equal(here.privileged.positions, there.privileged.positions)


def test_a_mistake_of_the_caller_leaves_the_simulator_usable(process):
    good = spec("pick", 1)
    wrong = TABLETOP.spec("push", 1, Condition())
    mixed = type(good)("tabletop", "pick", 1, wrong.instruction, wrong.goal)
    with pytest.raises(UserError, match="not possible in this scene"):
        process.reset(mixed)
    assert process.alive
    assert process.reset(good).observation.step == 0


def test_killed_in_mid_rollout_says_so_and_the_next_rollout_works():
    pool = EnvironmentPool(TABLETOP, limit=1)
    asked = spec("reach", 2)
    with pool.acquire() as simulator:
        steps = rollout(simulator, ExpertAgent(), asked)
        next(steps), next(steps)
        os.kill(simulator.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"ended \(signal SIGKILL\).*Start the rollout again"):
            list(steps)
    with pool.acquire() as simulator:
        *_, last = rollout(simulator, ExpertAgent(), asked)
        assert last.transition.success
    pool.close()


def test_pool_reuses_recycles_caps_and_ends_idle_ones():
    pool = EnvironmentPool(TABLETOP, limit=1, recycle_after=2, idle_seconds=0.5)
    with pool.acquire() as first:
        pid = first.pid
        assert pool.busy == 1
        with pytest.raises(UserError, match="All 1 simulators are in use"):
            pool.acquire(timeout=0.1)
    with pool.acquire() as second:
        assert second.pid == pid
    assert gone(pid), "replaced after two episodes"
    with pool.acquire() as third:
        assert third.pid != pid
        idle = third.pid
    assert gone(idle), "ended after half a second of idleness"
    pool.close()
    with pytest.raises(UserError, match="shut down"):
        pool.acquire()


PARENT = """
import time
from vlm4vla.suites.registry import TABLETOP
from vlm4vla.workers.environment import EnvironmentProcess
print(EnvironmentProcess(TABLETOP).pid, flush=True)
time.sleep(600)
"""


def test_a_simulator_dies_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        pid = int(Output(parent).line("", 180))
    finally:
        parent.kill()
        parent.wait(30)
    assert gone(pid)


def test_a_stock_environment_works_through_the_same_interface():
    simulator = EnvironmentProcess(MANISKILL)
    asked = MANISKILL.spec("StackCube-v1", 4, Condition())
    seen = simulator.reset(asked, BOTH).observation
    assert seen.images["policy"].shape == (128, 128, 3)
    assert seen.images["view"].shape == (384, 384, 3)
    ahead = simulator.step(np.array([0.5, 0, 0, 0, 0, 0, 1], np.float32)).observation
    assert ahead.proprio[0] > seen.proprio[0] + 0.005 and not ahead.images
    again = simulator.reset(asked, BOTH).observation
    np.testing.assert_array_equal(again.images["policy"], seen.images["policy"])
    with pytest.raises(UserError, match="StackCube-v1 tells no true state"):
        simulator.privileged()
    unknown = type(asked)("maniskill", "Juggle-v1", 0, "juggle", {"task": "Juggle-v1"})
    with pytest.raises(UserError, match=r"no environment 'Juggle-v1'.*StackCube-v1"):
        simulator.reset(unknown)
    assert simulator.reset(asked).observation.step == 0, "a mistake leaves it usable"
    simulator.close()
