import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from vlm4vla.driver import ExpertDriver, rollout
from vlm4vla.suites.maniskill.stock import INSTRUCTIONS, stock_goal, stock_scene
from vlm4vla.workers.simulator import SimulatorPool, SimulatorProcess

from tests.waiting import Output
from vlm4vla.errors import UserError
from vlm4vla.suites.tabletop import expert
from vlm4vla.suites.tabletop.env import Tabletop
from vlm4vla.suites.tabletop.scene import sample_episode
from vlm4vla.suites.tabletop.types import Pictures

BLIND = Pictures(image=False)
STILL = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)


@pytest.fixture(scope="module")
def process():
    simulator = SimulatorProcess()
    yield simulator
    simulator.close()


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as status:
            if status.read().split()[2] == "Z":
                return True
        time.sleep(0.05)
    return False


def test_same_episode_here_and_in_another_process(process, tabletop: Tabletop):
    episode = sample_episode("stack", 8)
    here = tabletop.reset(episode.scene, episode.goal)
    there = process.reset(episode.scene, episode.goal)
    while not here.done:
        np.testing.assert_array_equal(here.state.positions, there.state.positions)
        np.testing.assert_array_equal(here.image, there.image)
        action = expert.act(here.state, episode.goal)
        here, there = tabletop.step(action), process.step(action)
        assert here.events == there.events
    assert there.success


def test_a_mistake_of_the_caller_leaves_the_simulator_usable(process):
    scene = sample_episode("pick", 1).scene
    with pytest.raises(UserError, match="not possible in this scene"):
        process.reset(scene, sample_episode("push", 1).goal)
    assert process.alive
    episode = sample_episode("pick", 1)
    assert process.reset(episode.scene, episode.goal, BLIND).step == 0


def test_killed_in_mid_rollout_says_so_and_the_next_rollout_works():
    pool = SimulatorPool(limit=1)
    episode = sample_episode("reach", 2)
    with pool.acquire() as simulator:
        steps = rollout(simulator, ExpertDriver(), episode.scene, episode.goal, episode.instruction)
        next(steps), next(steps)
        os.kill(simulator.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"ended \(signal SIGKILL\).*Start the rollout again"):
            list(steps)
    with pool.acquire() as simulator:
        steps = list(
            rollout(simulator, ExpertDriver(), episode.scene, episode.goal, episode.instruction)
        )
        assert steps[-1].observation.success
    pool.close()


def test_pool_reuses_recycles_caps_and_ends_idle_ones():
    pool = SimulatorPool(limit=1, recycle_after=2, idle_seconds=0.5)
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
import sys, time
from vlm4vla.workers.simulator import SimulatorProcess
print(SimulatorProcess().pid, flush=True)
time.sleep(600)
"""


def test_a_simulator_dies_with_its_parent():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        pid = int(Output(parent).line("", 120))
    finally:
        parent.kill()
        parent.wait(30)
    assert gone(pid)


def test_a_stock_environment_works_through_the_same_interface():
    simulator = SimulatorProcess("StackCube-v1")
    goal, sentence = stock_goal("StackCube-v1")
    assert sentence == INSTRUCTIONS["StackCube-v1"]
    seen = simulator.reset(stock_scene(4), goal, Pictures(image=True, view=True))
    assert seen.image.shape == (128, 128, 3) and seen.view.shape == (384, 384, 3)
    ahead = simulator.step(np.array([0.5, 0, 0, 0, 0, 0, 1], np.float32), BLIND)
    assert ahead.state.tcp[0] > seen.state.tcp[0] + 0.005
    again = simulator.reset(stock_scene(4), goal)
    np.testing.assert_array_equal(again.image, seen.image)
    with pytest.raises(UserError, match="cannot be switched"):
        simulator.set_goal(goal)
    simulator.close()


def test_unknown_environments_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"no environment 'Juggle-v1'.*StackCube-v1"):
        SimulatorProcess("Juggle-v1")
    with pytest.raises(UserError, match="No instruction is known for 'Juggle-v1'"):
        stock_goal("Juggle-v1")
