import numpy as np
import pytest
import torch
from synthetic import make_cache

from vlm4vla import action
from vlm4vla.model.head import Prediction
from vlm4vla.model.policy import Policy
from vlm4vla.train.batches.frames import Frames
from vlm4vla.train.objectives.imitation import measure_imitation, vary
from vlm4vla.train.objectives.language import make_backbone

SIZES = {"vision_layers": 2, "vision_width": 48, "language_layers": 2, "language_width": 48}


def test_no_variation_changes_nothing():
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(vary(images, torch.ones(2, 2)), images)


def test_brightness_and_contrast_are_those_asked_for():
    image = torch.tensor([200, 40, 40], dtype=torch.uint8).expand(2, 4, 4, 3)
    varied = vary(image, torch.tensor([[1.1, 1.0], [1.0, 0.9]]))
    # 1.1 times; and 0.9 times the distance from 128, rounded down.
    assert varied[0, 0, 0].tolist() == [220, 44, 44]
    assert varied[1, 0, 0].tolist() == [192, 48, 48]


def test_errors_of_first_actions_are_millimetres_of_command(monkeypatch):
    policy = Policy(make_backbone(**SIZES, heads=4), action.tiny())
    cache = make_cache(episodes=2, frames=2)
    frames, numbers = Frames(cache, np.arange(len(cache)), ["reach", "pick"]), np.arange(len(cache))
    batch = frames.every_goal(numbers, np.random.default_rng(0))
    reach = np.array([goal.task == "reach" for goal in batch.goals])
    assert reach.mean() == 0.5
    # 1.0 commands 0.1 m, so that reach is off by (0.03, 0.04, 0) m, which is 50 mm, and pick by 20
    # mm. Later actions, which are off by more, do not count.
    wanted = batch.chunks.copy()
    wanted[reach, 0, :3] += np.float32([0.3, 0.4, 0])
    wanted[~reach, 0, :3] += np.float32([0, 0, 0.2])
    wanted[:, 1:, :3] += 2
    # One of the four commands to the gripper is wrong.
    wanted[~reach, 2, 6] *= -1
    # A prediction of 1 stands for the expert's largest command, 0.6.
    arm, gripper = torch.from_numpy(wanted[..., :6]) / 0.6, torch.from_numpy(wanted[..., 6])
    monkeypatch.setattr(policy.head, "forward", lambda state: Prediction(arm, gripper))
    expected = {"arm_mm_reach": 50, "arm_mm_pick": 20, "arm_mm_all": 35}
    expected |= {"gripper_reach": 1, "gripper_pick": 0.75, "gripper_all": 0.875}
    found = measure_imitation(policy, frames, numbers).metrics()
    assert found == pytest.approx(expected, rel=1e-4)
