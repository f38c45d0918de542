import os
import signal
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from vlm4vla.driver import ExpertDriver
from vlm4vla.eval.drivers import policy_drivers, single_threaded_driver
from vlm4vla.eval.process import DriverProcess

from vlm4vla.errors import UserError
from vlm4vla.model.policy import Policy
from vlm4vla.suites.tabletop.scene import sample_episode
from vlm4vla.suites.tabletop.types import Observation, State
from vlm4vla.train.language import make_backbone

SIZES = {"vision_layers": 3, "vision_width": 80, "language_layers": 3, "language_width": 80}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "untrained"
    Policy.from_vlm(make_backbone(**SIZES), query_init="embedding", device="cpu").save_pretrained(
        folder
    )
    return folder


def observation():
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    nothing = np.zeros((0, 3), np.float32)
    state = State(nothing, nothing, 0.0, (), nothing, nothing[:, 0], 0)
    return Observation(0, state, image, None, None, (), False, False, False, 0.0, 0.0)


def test_every_worker_has_a_policy_in_a_process_of_its_own(checkpoint, monkeypatch):
    monkeypatch.setattr("vlm4vla.eval.drivers.accelerator", lambda: "cpu")
    scene = sample_episode("pick", 3).scene
    with policy_drivers(checkpoint) as make:
        first, second = make(), make()
        assert len({first.pid, second.pid, os.getpid()}) == 3
        for driver in (first, second):
            driver.begin(scene, "lift the red cube")
        chunks = [driver.act(observation()) for driver in (first, second, first)]
        assert chunks[0].shape == (4, 7) and np.array_equal(chunks[0], chunks[1])
        assert np.array_equal(chunks[0], chunks[2])
        assert (first.kind, first.execute) == ("policy", 4)
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(UserError, match=r"process ended \(signal SIGKILL\)"):
            second.act(observation())
    assert not psutil.pid_exists(first.pid)


def test_a_workers_policy_computes_with_one_thread(checkpoint):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        single_threaded_driver(checkpoint)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_what_the_driver_says_of_itself_and_its_refusals_cross_over():
    driver = DriverProcess(partial(ExpertDriver, execute=3))
    assert (driver.kind, driver.execute, driver.label) == ("expert", 3, ExpertDriver().label)
    with pytest.raises(UserError, match="does not understand 'sing'"):
        driver.begin(sample_episode("pick", 3).scene, "sing")
    with pytest.raises(UserError, match="no instruction"):
        driver.act(observation())
    driver.close()
    assert not psutil.pid_exists(driver.pid)


def test_a_checkpoint_that_is_missing_is_told_where_it_is_wanted(tmp_path):
    with pytest.raises(UserError, match="There is no checkpoint folder"):
        DriverProcess(partial(single_threaded_driver, tmp_path / "none"))
